"""No option is declared and then dropped: each changes what some stage behind its command receives.

Stages are replaced by ones that write down their arguments. An option that is added without being passed on, or whose
passing on gets lost, fails here without a test of its own.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer
from stages import Stages
from typer.models import OptionInfo

from tvmbuild.commands.app import app, run

#: How a command tells what it did: options of the console, which has tests of its own.
_TELLING = frozenset({"as_json", "verbose", "quiet"})


@dataclass(frozen=True)
class Command:
    """A command as it is tried.

    Attributes:
        arguments: without which it does not start.
        stages: "module:function" that are replaced, in the order of their calls; the last one ends the run.
        results: what they return, by the function's name, where a mock does not do.
        told: values of options that no type tells, by name; several words where an option needs another one.
        elsewhere: options without a stage, and who tests them.
    """

    arguments: tuple[str, ...]
    stages: tuple[str, ...]
    results: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    told: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


_OPENED = (
    "tvmbuild.artifact.open:open_artifact",
    "tvmbuild.checking.verify:target_of",
    "tvmbuild.artifact.relink:with_library",
)
_FLEET = "tvmbuild.device.fleet"
_DIFFERS = SimpleNamespace(passed=False, outputs=(), samples=1, device="", peak_bytes=1, to_json=dict)
_SIGNED = {"key": ("--key", "there")}
COMMANDS: Mapping[str, Command] = {
    "build": Command(
        ("net.onnx", "--int8", "--calibrate", "samples"),
        ("tvmbuild.commands.build:_write_depfile", "tvmbuild.commands.build:_build"),
        told={"calibrate": ("--calibrate", "there")},
        # It is tried with int8, and the depfile is written last: tests/unit/test_dependencies.py.
        elsewhere=frozenset({"int8", "depfile"}),
    ),
    "quantize": Command(
        ("net.onnx",),
        (
            "tvmbuild.support.atomic.staging:check_writable",
            "tvmbuild.quantization.report:check_plot",
            "tvmbuild.quantization.quantizer:quantize_model",
        ),
    ),
    "verify": Command(
        ("there", "--model", "net.onnx"),
        (
            "tvmbuild.releases.trust:check_signed",
            "tvmbuild.support.atomic.staging:check_writable",
            *_OPENED,
            "tvmbuild.checking.verify:check_same_model",
            "tvmbuild.device:open_device",
            "tvmbuild.checking.verify:verify",
            "tvmbuild.bisect:first_difference",
            "tvmbuild.support.atomic.staging:write_whole",
            "tvmbuild.checking.verify:require_passed",
        ),
        results={"verify": _DIFFERS},
        told={"model": ("--model", "there")},
    ),
    "inspect": Command(("net.onnx",), ("tvmbuild.inspection:inspect_model",)),
    "bench": Command(
        ("there", "--against", "onnxruntime", "--model", "net.onnx"),
        (
            *_OPENED,
            "tvmbuild.checking.samples:load_samples",
            "tvmbuild.device:open_device",
            "tvmbuild.predict.predictor:predict",
            "tvmbuild.checking.bench:bench",
        ),
        told={"model": ("--model", "there"), "against": ("--against", "nothing"), "threads": ("--threads", "3")},
        elsewhere=frozenset({"against"}),
    ),
    "bundle": Command(
        ("there",),
        ("tvmbuild.releases.signing:load_signer", *_OPENED, "tvmbuild.releases.bundle:write_bundle"),
        told=_SIGNED,
    ),
    "release": Command(
        (),
        (
            "tvmbuild.releases.plan:read_plan",
            "tvmbuild.releases.reproducible:check_reproducible",
            "tvmbuild.releases.signing:load_signer",
            "tvmbuild.releases.notes:read_report",
            "tvmbuild.releases.remote_cache:open_remote",
            "tvmbuild.releases.run:release",
        ),
        told={"targets": ("--targets", "rpi3,rpi5"), **_SIGNED},
        # tests/integration/test_release.py
        elsewhere=frozenset({"explain"}),
    ),
    "init": Command(("net.onnx",), ("tvmbuild.releases.project_files:write_project",)),
    "tune": Command(("net.onnx",), ("tvmbuild.tuning.tune:tune",)),
    "report": Command(
        ("net.onnx",),
        ("tvmbuild.commands.records:chosen",),
        # Drawn after what there is to draw was found.
        elsewhere=frozenset({"output"}),
    ),
    "tracker": Command((), (f"{_FLEET}.tracker:TrackerClient",), told={"host": ("--host", "localhost")}),
    "doctor": Command((), ("tvmbuild.checking.doctor:run_checks",)),
    "keys new": Command((), ("tvmbuild.releases.signing:new_keys",)),
    "records list": Command((), ("tvmbuild.commands.records:chosen",)),
    "records merge": Command(("there",), ("tvmbuild.commands.records:_merge",)),
    "records prune": Command((), ("tvmbuild.commands.records:chosen",)),
    "records export": Command(
        ("--output", "a.tar"),
        ("tvmbuild.commands.records:chosen", "tvmbuild.records.maintenance:export"),
        results={"chosen": [1]},
    ),
    "records import": Command(("there",), ("tvmbuild.records.maintenance:unpack", "tvmbuild.commands.records:_merge")),
    "device serve": Command(
        ("--key", "desk"),
        (
            f"{_FLEET}.processes:native_server_command",
            f"{_FLEET}.processes:python_server_command",
            "tvmbuild.commands.boards.serve:_run",
        ),
        results={"native_server_command": ["native"], "python_server_command": ["python"]},
        told={"host": ("--host", "localhost")},
    ),
    "device emulate": Command((), (f"{_FLEET}.emulated_boards:EmulatedBoards",)),
    "device provision": Command(
        ("pi@desk",),
        (f"{_FLEET}.provision:provision", "tvmbuild.commands.boards.provision:_hold"),
    ),
    "device list": Command((), (f"{_FLEET}.tracker:TrackerClient",)),
    "device check": Command((), (f"{_FLEET}.check:check_board",)),
}
#: They show what there is.
WITHOUT_OPTIONS = frozenset({"targets"})
#: Values by the option's name, where its type has no value that will do.
_VALUES = {
    "target": "rpi5",
    "for_target": "rpi5",
    "shape": "x=1,3",
    "value": "y=2",
    "limit": "seconds=99",
    "tracker": "127.0.0.1:9999",
    "on": "emulated",
    "name": "other",
    "weights": "fp16",
    "prefer": "size",
}
#: Flags whose off side is not the default.
_OFF = frozenset({"compare", "strips", "use_records", "tunnel"})


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    def walk(group: typer.Typer, above: tuple[str, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
        for one in group.registered_commands:
            assert one.callback is not None
            yield " ".join((*above, one.name or one.callback.__name__.replace("_", "-"))), one.callback
        for inner in group.registered_groups:
            assert inner.typer_instance is not None
            yield from walk(inner.typer_instance, (*above, str(inner.name or inner.typer_instance.info.name)))

    return walk(app, ())


def options_of(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """Return name, type and typer's description of a command's options."""
    hints = typing.get_type_hints(callback, include_extras=True)
    for name in inspect.signature(callback).parameters:
        hint = hints[name]
        assert typing.get_origin(hint) is Annotated
        kind, told = typing.get_args(hint)[:2]
        if isinstance(told, OptionInfo):
            yield name, kind, told


ALL = [(path, name) for path, callback in commands() for name, _, _ in options_of(callback) if name not in _TELLING]


def words_of(path: str, name: str) -> tuple[str, ...]:
    """Return the words that set an option to another value than its default."""
    if name in COMMANDS[path].told:
        return COMMANDS[path].told[name]
    callback = dict(commands())[path]
    kind, told = next((kind, told) for each, kind, told in options_of(callback) if each == name)
    # In an annotation, typer takes the first spelling for the default.
    spellings = (told.default, *(told.param_decls or ()))
    flags = [flag for flag in spellings if isinstance(flag, str) and flag.startswith("--")]
    flag = flags[0] if flags else "--" + name.replace("_", "-")
    inner = (kind, *typing.get_args(kind))
    if kind is bool or bool in inner:
        on, _, off = flag.partition("/")
        return ((off or f"--no-{on[2:]}") if name in _OFF else on,)
    number = {int: "7", float: "0.5"}
    return flag, _VALUES.get(name) or next((number[each] for each in inner if each in number), "there")


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) | WITHOUT_OPTIONS == {path for path, _ in commands()}
    for path, command in COMMANDS.items():
        assert command.elsewhere <= {name for each, name in ALL if each == path}


def seen_by(path: str, words: tuple[str, ...], stages: Stages) -> list[str]:
    command = COMMANDS[path]
    for place in command.stages:
        module, _, name = place.partition(":")
        stages.replace(
            importlib.import_module(module), name, command.results.get(name), last=place == command.stages[-1]
        )
    before = len(stages.seen)
    run([*path.split(), *command.arguments, *words])
    return stages.seen[before:]


#: What the stages receive without any option, by command.
_PLAIN: dict[str, list[str]] = {}


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path, name in ALL if path in COMMANDS and name not in COMMANDS[path].elsewhere],
)
def test_an_option_of_a_command_arrives_at_a_stage(
    path: str, name: str, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("net.onnx", "there"):
        (in_empty_folder / file).write_text("x")
    (in_empty_folder / "samples").mkdir()
    stages = Stages(monkeypatch)
    if path not in _PLAIN:
        _PLAIN[path] = seen_by(path, (), stages)
    assert _PLAIN[path], capsys.readouterr()
    assert seen_by(path, words_of(path, name), stages) not in ([], _PLAIN[path]), capsys.readouterr()
