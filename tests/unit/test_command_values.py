"""Numbers, shapes and paths that nobody means, given to every option of every command: an error of its kind, no bug."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import onnx
import pytest
import typer
from onnx import TensorProto, helper
from test_artifact import write_artifact

from tvmbuild.commands.app import app, run
from tvmbuild.support import errors

NUMBERS = ("inf", "-inf", "nan", "-1", "-1e400", "1e400", "2.7", "99999999999999999999", "9" * 5000, "", "x", "0x10")
SHAPES = (
    *("x=inf", "x=-1", "x=1,2,nan", "x=0", "x=" + "9" * 30, "x=" + ",".join(["9" * 9] * 8), "x=1,", "=1", "x", ""),
    *("x=1.5", "x=" + ",".join(["1"] * 1000), "\0=1", "y=1"),
)
VALUES = ("x=inf", "x=nan", "x=" + "9" * 5000, "x=1e400", "x=", "x", "", "=1", "x=" + ",".join(["1"] * 1000), "y=1")
PATHS = (
    *("a" * 256, "/".join(["a" * 200] * 30), "a" * 5000, "a\0b", "", "/dev/null/a", "..", "\udcff" * 200),
    "/proc/self/mem",
)
ADDRESSES = ("h:0", "h:99999", "::", ":1", "[", "h:" + "9" * 5000, "h:\u00b2")

COMMAND: Any = typer.main.get_command(app)


def commands(group: Any = COMMAND, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


#: They do not return: they serve until they are told to stop.
SERVING = {("tracker",), ("device", "serve"), ("device", "emulate"), ("device", "provision")}
WORDS_OF = {int: NUMBERS, float: NUMBERS, Path: PATHS}
BY_NAME = {
    "shape": SHAPES,
    "value": VALUES,
    "time": NUMBERS,
    "budget": (*NUMBERS, "sqnr>=nan"),
    "tracker": (*PATHS, *ADDRESSES),
    "task": ("[", "*" * 5000),
    **dict.fromkeys(("target", "for_target", "targets", "board", "images", "model", "version", "name"), PATHS),
    **dict.fromkeys(("keep_fp32", "metric"), PATHS),
}


def cases() -> Iterator[tuple[tuple[str, ...], str]]:
    for names, command in commands():
        for parameter in command.params if names not in SERVING else ():
            if parameter.name in BY_NAME or parameter.type_descriptor.annotation in WORDS_OF:
                yield names, parameter.name


@pytest.fixture
def workplace(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and an artifact; what would compile, run or measure fails with an error of its own."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, None)]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "m.onnx")
    write_artifact(in_empty_folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_empty_folder / "cache"))

    def stop(kind: type[errors.TvmbuildError]) -> Callable[..., NoReturn]:
        def stopped(*_arguments: object, **_options: object) -> NoReturn:
            raise kind("Stopped by the test.")

        return stopped

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    def absent(*_arguments: object, **_options: object) -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess, "Popen", absent)
    # Typer makes all commands anew for each run, which takes most of its time.
    monkeypatch.setattr("typer.main.get_command", lambda _app: COMMAND)
    for place, kind in (
        ("tvmbuild.pipeline.find_toolchain", None),
        ("tvmbuild.pipeline.to_relax", errors.CompileError),
        ("tvmbuild.inspection.to_relax", errors.CompileError),
        ("tvmbuild.tuning.tune.find_toolchain", errors.ToolchainError),
        ("tvmbuild.device.open_device", errors.DeviceError),
        ("tvmbuild.releases.bundle.write_bundle", errors.OutputError),
        ("tvmbuild.releases.run.release", errors.OutputError),
        ("tvmbuild.device.fleet.check.check_board", errors.DeviceError),
    ):
        monkeypatch.setattr(place, stop(kind) if kind else lambda *_arguments: None)
    return in_empty_folder


@pytest.mark.parametrize(
    ("names", "parameter"), sorted(cases()), ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_no_value_of_an_option_is_a_bug(
    names: tuple[str, ...], parameter: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = dict(commands())[names]
    option = next(each for each in command.params if each.name == parameter)
    arguments = []
    for other in command.params:
        if other.param_type_name == "argument" and other.name != parameter and other.required:
            arguments.append("m.onnx" if other.name == "model" else "net-rpi4.json")
    for word in BY_NAME.get(parameter) or WORDS_OF[option.type_descriptor.annotation]:
        given = ["--", word] if option.param_type_name == "argument" else [f"{option.opts[-1]}={word}"]
        code = run([*names, *given, *arguments] if given[0] != "--" else [*names, *arguments, *given])
        shown = capsys.readouterr().err
        assert code != 1, (word[:80], shown[-600:])
        if option.type_descriptor.annotation is int:
            assert code == errors.OptionError.exit_code, (word[:80], shown[-600:])
