"""``bench --predict``: for how many threads, and in what form."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvmbuild.commands import bench
from tvmbuild.commands.app import run
from tvmbuild.predict.predictor import Prediction
from tvmbuild.support.errors import OptionError
from tvmbuild.target.target import load_target


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace what is behind the command; return the threads that are predicted for."""
    asked: list[int] = []

    def predict(*_arguments: object, threads: int) -> Prediction:
        asked.append(threads)
        return Prediction("rpi4", "Cortex-A72", "22", 9, 8.0, 7.0, 6.0, 5, 4, 1.0, (), threads, 3_000_000, 2_000_000)

    artifact = SimpleNamespace(manifest=SimpleNamespace(inputs=()), library=Path("net.so"))
    monkeypatch.setattr(bench, "_open", lambda *_arguments: artifact)
    monkeypatch.setattr("tvmbuild.checking.verify.target_of", lambda _artifact: load_target("rpi4"))
    monkeypatch.setattr("tvmbuild.checking.samples.load_samples", lambda *_arguments, **_options: [{}])
    monkeypatch.setattr("tvmbuild.predict.predictor.predict", predict)
    return asked


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        ([], [1, 4]),
        (["--threads", "2"], [2]),
        (["--threads", "1,4,1"], [1, 4]),
        (["--threads", " 2 , 3"], [2, 3]),
        (["--threads", "0"], [4]),
    ],
)
def test_each_number_of_threads_is_predicted_once(predicted: list[int], words: list[str], threads: list[int]) -> None:
    assert run(["bench", "net.so", "--predict", *words]) == 0
    assert predicted == threads


def test_json_has_every_number_of_threads(predicted: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "net.so", "--predict", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["predicted"], told["threads"]) == (True, 1)
    assert {name: each["read_bytes"] for name, each in told["by_threads"].items()} == {"1": 3_000_000, "4": 3_000_000}
    assert len(predicted) == 2


@pytest.mark.parametrize("text", ["", "four", "1,", "-1", "1.5", "99999", "17"])
def test_what_is_no_number_of_threads_is_refused(
    predicted: list[int], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "net.so", "--predict", f"--threads={text}"]) == OptionError.exit_code
    assert "thread" in capsys.readouterr().err
    assert not predicted


def test_several_numbers_are_for_predictions_only(predicted: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "net.so", "--threads", "1,4"]) == OptionError.exit_code
    assert "Only --predict takes several" in capsys.readouterr().err
    assert not predicted
