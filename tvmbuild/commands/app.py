"""The list of commands, and the one place where errors become words and exit codes."""

from __future__ import annotations

import io
import sys
import tempfile
import traceback
from typing import Any

import typer

from tvmbuild.commands import (
    bench,
    build,
    bundle,
    doctor,
    init,
    inspect,
    keys,
    quantize,
    records,
    release,
    report,
    targets,
    tune,
    verify,
)
from tvmbuild.commands.boards import device, tracker
from tvmbuild.commands.console import Console, begin, emit, emit_error
from tvmbuild.commands.interrupt import Stop
from tvmbuild.commands.outside import explained
from tvmbuild.support.atomic.aside import scratch
from tvmbuild.support.errors import OptionError, TvmbuildError
from tvmbuild.support.versions import __version__

app = typer.Typer(
    name="tvmbuild",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(build.build)
app.command()(quantize.quantize)
app.command()(verify.verify)
app.command()(inspect.inspect)
app.command()(bench.bench)
app.command()(bundle.bundle)
app.command()(release.release)
app.command()(init.init)
app.add_typer(keys.keys, name="keys")
app.command()(tune.tune)
app.add_typer(records.app, name="records")
app.command()(report.report)
app.command()(tracker.tracker)
app.add_typer(device.app)
app.command()(targets.targets)
app.command()(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(f"tvmbuild {__version__}")
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
    begin()
    stop = Stop(as_json=_wants_json(arguments))
    for stream in (sys.stdout, sys.stderr):
        # A file's name may be no text in the terminal's encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with stop.listening(), scratch():
            code = app(arguments, standalone_mode=False)
    except BaseException as error:
        # An interrupt inside one of TVM's callbacks comes back as an error of TVM's: the signal tells the truth.
        return stop.code or _failed(error, arguments)
    # Typer takes any interrupt for Ctrl-C.
    return stop.code or (code if isinstance(code, int) else 0)


def _wants_json(arguments: list[str]) -> bool:
    """Whether a command line asks for JSON, be it right or wrong in all else."""
    options = arguments[: arguments.index("--") if "--" in arguments else None]
    return any(option.partition("=")[0] == "--json" for option in options)


def _failed(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong and return the exit code."""
    as_json = _wants_json(arguments)
    if isinstance(error, TvmbuildError):
        return _expected(error, as_json)
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage(error, as_json)
    if isinstance(error, BrokenPipeError):
        # The reader of our output (head, less) is gone: that is its right. Nothing may be flushed to it at exit.
        sys.stdout = None
        return 0
    outside = explained(error)
    if outside is not None:
        return _expected(outside, as_json)
    if isinstance(error, Exception):
        return _bug(error, arguments, as_json)
    raise error


def _expected(error: TvmbuildError, as_json: bool) -> int:
    if as_json:
        emit_error(type(error).__name__, error.message, error.hint, error.exit_code, error.details)
    Console.say(f"error: {error.message}", style="red")
    if error.hint:
        Console.say(f"  fix: {error.hint}")
    return error.exit_code


def _usage(error: Any, as_json: bool) -> int:
    """Say what is wrong with a command line; the classes of these errors are in typer's own copy of click."""
    message, context, code = str(error.format_message()), getattr(error, "ctx", None), int(error.exit_code)
    if as_json:
        hint = f"{context.command_path} --help" if context else ""
        emit_error(OptionError.__name__, message, hint, code)
    # Without any argument the message is the help itself.
    if context is None or type(error).__name__ == "NoArgsIsHelpError":
        Console.say(message)
    else:
        Console.say(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n")
        Console.say(f"error: {message}", style="red")
    return code


def _bug(error: Exception, arguments: list[str], as_json: bool) -> int:
    last = traceback.format_exception_only(error)[-1].strip()[:500]
    message = f"this is a bug in tvmbuild: {last}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="tvmbuild-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(f"tvmbuild {__version__}\npython {sys.version}\narguments {arguments}\n\n")
            traceback.print_exception(error, file=log)
        hint, details = f"please report it with the log {log.name}", {"log": log.name}
    except OSError as failure:
        hint, details = f"please report it (no log could be written: {failure.strerror})", {}
    if as_json:
        emit_error("Bug", message, hint, TvmbuildError.exit_code, details)
    Console.say(f"error: {message}", style="red")
    Console.say(f"  fix: {hint}")
    return TvmbuildError.exit_code
