"""The list of commands, and the one place where errors become words and exit codes."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import traceback
from types import FrameType

import click
import typer

import tvmbuild
from tvmbuild.commands import build, doctor, inspect, targets, verify
from tvmbuild.commands.console import Console, Terminated, plain
from tvmbuild.errors import INTERRUPTED, TvmbuildError

app = typer.Typer(
    name="tvmbuild",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(build.build)
app.command()(verify.verify)
app.command()(inspect.inspect)
app.command()(targets.targets)
app.command()(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tvmbuild {tvmbuild.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Compile ONNX models into fast libraries for Raspberry Pi class boards.

    \b
    tvmbuild build model.onnx -t rpi4 --shape x=1,3,224,224
    tvmbuild verify dist/model-rpi4.so --model model.onnx
    tvmbuild inspect model.onnx
    """


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; a traceback is shown for none of them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    as_json = "--json" in arguments
    try:
        code = app(arguments, standalone_mode=False)
    except TvmbuildError as error:
        return _expected(error, as_json)
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        Console.say("\nInterrupted. Finished files are whole; nothing is half-written.")
        return INTERRUPTED
    except Terminated:
        Console.say("\nTerminated. Finished files are whole; nothing is half-written.")
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # The reader of our output (head, less) is gone: that is its right. Nothing may be flushed to it at exit.
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except Exception:
        return _bug(arguments)
    return code if isinstance(code, int) else 0


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _expected(error: TvmbuildError, as_json: bool) -> int:
    if as_json:
        described = {"class": type(error).__name__, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": {**described, "exit_code": error.exit_code, **error.details}}, default=plain))
    Console.say(f"error: {error.message}", style="red")
    if error.hint:
        Console.say(f"  fix: {error.hint}")
    return error.exit_code


def _bug(arguments: list[str]) -> int:
    with tempfile.NamedTemporaryFile("w", prefix="tvmbuild-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(f"tvmbuild {tvmbuild.__version__}\npython {sys.version}\narguments {arguments}\n\n")
        traceback.print_exc(file=log)
    last = traceback.format_exc().strip().splitlines()[-1]
    Console.say(f"error: this is a bug in tvmbuild: {last[:500]}", style="red")
    Console.say(f"  fix: please report it with the log {log.name}")
    return 1
