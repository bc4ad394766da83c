"""What is printed: no text that tvmbuild was given reaches a terminal with its control characters."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import model
from rich.console import Console as RichConsole
from test_artifact import MANIFEST
from test_tune_view import drawn, summary
from test_tuning_records import trial
from tuning_fakes import BOARD

from tvmbuild.commands import console
from tvmbuild.commands.app import run
from tvmbuild.commands.console import Console, emit, stage_bars, stage_line, table_lines
from tvmbuild.device.fleet.tracker import BoardEntry, KeySummary, Summary, TrackerClient
from tvmbuild.records.board_records import write_board
from tvmbuild.records.journal import JOURNAL, append_line, trial_line
from tvmbuild.support import progress
from tvmbuild.support.errors import OptionError, TvmbuildError
from tvmbuild.support.tensor import TensorSpec

#: Clears the screen, renames the window, starts a sequence in the control characters of Latin-1, turns the writing.
EVIL = "a\x1b[2J\x1b]0;mine\x07b\r\x9b31m\u202ec[bold]"
#: A terminal may be sent none of them but line breaks and tabs.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> bool:
    return RAW.search(text) is None


@given(st.text() | st.just(EVIL))
def test_every_way_of_printing_cleans(text: str) -> None:
    for line in table_lines((text, "b"), [(text, "1")]):
        assert clean(line)
        assert "\n" not in line
    assert clean(stage_line(progress.Stage(text, detail=text, seconds=1.0)))


@pytest.mark.parametrize(
    "way",
    [
        emit,
        Console.say,
        lambda text: Console.say(text, style="red"),
        Console().text,
        Console(as_json=True).text,
        Console(verbose=True).detail,
        lambda text: Console().table(("x",), [(text,)]),
        lambda text: Console(as_json=True).result({text: [text]}),
    ],
)
def test_a_control_character_is_shown_and_not_sent(
    way: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    way(EVIL)
    shown = capsys.readouterr()
    assert clean(shown.out + shown.err)
    assert "x1b" in shown.out + shown.err or "\\u001b" in shown.out


def test_stages_are_cleaned_with_bars_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().stages(), progress.stage(EVIL) as step:
        step.detail = EVIL
    assert clean(capsys.readouterr().err)
    output = io.StringIO()
    bars, show = stage_bars(RichConsole(file=output, width=200))
    stage = progress.Stage(EVIL)
    show(stage)
    assert bars.tasks[0].description.count("\\x1b") == 2
    bars.console.print(bars.make_tasks_table(bars.tasks))
    stage.seconds = 1.0
    show(stage)
    assert clean(output.getvalue())
    # What looks like rich's markup is a part of the name.
    assert output.getvalue().count("c[bold]") == 2


def test_a_tuning_runs_table_is_cleaned() -> None:
    rows = tuple(dataclasses.replace(row, name=EVIL, shape=EVIL) for row in summary().rows)
    lines = drawn(dataclasses.replace(summary(), rows=rows, limit_text=EVIL), 200, 50)
    assert all(map(clean, lines))
    assert any("c[bold]" in line for line in lines)


def manifest(folder: Path) -> list[str]:
    made = dataclasses.replace(
        MANIFEST,
        model={"file": EVIL, "sha256": "0" * 64},
        inputs=(TensorSpec(EVIL, "float32", (1,)),),
        outputs=(TensorSpec(EVIL, "float32", (1,)),),
        fusion={
            "passes": [{"applied": 1, "total": 2, "what": EVIL}],
            "kernels": [{"ops": [EVIL], "kind": EVIL, "mac_share": 1.0, "calls": 1, "workload": EVIL}],
        },
        memory={"arena": 1, "naive": 1},
    )
    (folder / "net.json").write_text(made.to_json())
    return ["inspect", "net.json", "-v"]


def damaged_manifest(folder: Path) -> list[str]:
    (folder / "net.json").write_text(json.dumps({"format": "tvmbuild-manifest", "version": EVIL}))
    return ["inspect", "net.json"]


def model_of(folder: Path, *nodes: onnx.NodeProto) -> list[str]:
    onnx.save(model(list(nodes), {"x": (1, 3)}, ["y"]), folder / "net.onnx")
    return ["inspect", "net.onnx"]


#: Whatever keyword is given becomes an attribute.
EVIL_ATTRIBUTE: dict[str, Any] = {EVIL: 1}


def operator_and_attribute(folder: Path) -> list[str]:
    return model_of(folder, helper.make_node(EVIL, ["x"], ["y"], name=EVIL, domain="other", **EVIL_ATTRIBUTE))


def local_function(folder: Path) -> list[str]:
    made = model([helper.make_node("f", ["x"], ["y"], domain=EVIL)], {"x": (1, 3)}, ["y"])
    inner = [helper.make_node(EVIL, ["a"], [EVIL], name=EVIL), helper.make_node("Relu", [EVIL], ["b"])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(EVIL, 1)]
    made.functions.append(helper.make_function(EVIL, "f", ["a"], ["b"], inner, imports))
    onnx.save(made, folder / "net.onnx")
    return ["inspect", "net.onnx"]


def external_data(folder: Path) -> list[str]:
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (1, 3)}, ["y"])
    weight = TensorProto(name=EVIL, data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=EVIL)
    made.graph.initializer.append(weight)
    onnx.save(made, folder / "net.onnx")
    return ["inspect", "net.onnx"]


def option_values(_folder: Path) -> list[str]:
    return ["build", EVIL, "-t", EVIL, "--shape", EVIL]


def wrong_options(_folder: Path) -> list[str]:
    return ["build", "m.onnx", f"--{EVIL}"]


def project_file(folder: Path) -> list[str]:
    (folder / "tvmbuild.toml").write_text(
        f'[build]\n"{EVIL.encode("unicode_escape").decode()}" = 1\n'.replace("\\x", "\\u00")
    )
    return ["build", "m.onnx"]


def target_file(folder: Path) -> list[str]:
    (folder / "t.toml").write_text('description = "\\u001b[2J"\n"\\u001b" = 1\n')
    return ["build", "m.onnx", "-t", "./t.toml"]


def records(folder: Path) -> list[str]:
    board = folder / "tuning_logs" / "rpi4" / "board"
    write_board(board, dataclasses.replace(BOARD, core=EVIL))
    append_line(board / JOURNAL, trial_line(trial(shape=EVIL, kind=EVIL, choice={EVIL: 1})))
    return ["records", "list", "-v"]


def tracker(_folder: Path) -> list[str]:
    return ["device", "list", "--tracker", "127.0.0.1:1"]


SOURCES = (
    *(manifest, damaged_manifest, operator_and_attribute, local_function, external_data, option_values, wrong_options),
    *(project_file, target_file, records, tracker),
)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_no_source_reaches_the_terminal_raw(
    source: Callable[[Path], list[str]],
    as_json: bool,
    in_empty_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = {EVIL: EVIL, "core": EVIL, "kernel": EVIL, "tvm": EVIL}
    known = [KeySummary(EVIL, (BoardEntry(EVIL, EVIL, told, {}, {"peer": EVIL, "user": EVIL}),), 0, 0)]
    monkeypatch.setattr(TrackerClient, "__init__", lambda *_: None)
    monkeypatch.setattr(TrackerClient, "__enter__", lambda self: self)
    monkeypatch.setattr(TrackerClient, "__exit__", lambda *_: None)
    monkeypatch.setattr(TrackerClient, "summary", lambda _: Summary(tuple(known), 0))
    code = run([*source(in_empty_folder), *(["--json"] if as_json else [])])
    shown = capsys.readouterr()
    assert code != 1, shown.err
    assert clean(shown.out + shown.err)
    assert "1b" in shown.out + shown.err, "it was not shown at all"
    if as_json:
        assert len(shown.out.splitlines()) == 1
        json.loads(shown.out)


def error_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    found: dict[str, Any] = json.loads(lines[0])["error"]
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "m.onnx", "--tagret", "rpi4", "--json"],
        ["build", "--json"],
        ["biuld", "--json"],
        ["--json"],
        ["build", "m.onnx", "--seed", "x", "--json"],
        ["build", "m.onnx", "--json", "--seed"],
        ["targets", "--json=yes"],
    ],
)
def test_a_wrong_command_line_is_one_json_object(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == OptionError.exit_code
    error = error_of(capsys)
    assert (error["class"], error["exit_code"]) == ("OptionError", 2)
    assert error["message"]


def test_a_bug_is_one_json_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("tvmbuild.target.target.load_target", broken)
    assert run(["targets", "--json"]) == TvmbuildError.exit_code
    error = error_of(capsys)
    assert (error["class"], error["exit_code"]) == ("Bug", 1)
    assert "ZeroDivisionError: boom" in error["message"]
    Path(error["log"]).unlink()


def test_an_interrupt_is_one_json_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmbuild.target.target.load_target", lambda _: signal.raise_signal(signal.SIGTERM))
    assert run(["targets", "--json"]) == 143
    assert (error_of(capsys)["class"]) == "Interrupted"


def test_what_follows_the_options_asks_for_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--", "--json", "x"]) == OptionError.exit_code
    assert capsys.readouterr().out == ""


def test_a_command_prints_one_object_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that said what it listens on does not answer once more when it is told to stop."""
    console.begin()
    console.emit_json({"address": "127.0.0.1:9190"})
    console.emit_error("Interrupted", "Terminated.", "", 143)
    assert len(capsys.readouterr().out.splitlines()) == 1
    console.begin()
    console.emit_error("Interrupted", "Terminated.", "", 143)
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 143
