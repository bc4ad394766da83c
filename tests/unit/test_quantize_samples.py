from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tvmbuild.quantization.calibration.image import ImageRecipe, load_presets, load_recipe, read_image
from tvmbuild.quantization.calibration.sample_set import SampleRef, split_samples
from tvmbuild.quantization.calibration.sources import find_samples, spool_samples
from tvmbuild.support.errors import CalibrationError, OptionError
from tvmbuild.support.tensor import TensorSpec

IMAGE = (TensorSpec("x", "float32", (1, 3, 4, 6)),)
TWO = (TensorSpec("a:0", "float32", (1, 2)), TensorSpec("b", "int64", ()))
PLAIN = ImageRecipe()


def picture(path: Path, size: tuple[int, int] = (12, 8), colour: tuple[int, int, int] = (255, 0, 51)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def refs(count: int) -> list[SampleRef]:
    return [SampleRef(str(k), f"{k:064}", dict) for k in range(count)]


def load_all(folder: Path) -> None:
    for ref in find_samples(folder, IMAGE, PLAIN):
        ref.load()


def test_pictures_are_resized_and_normalized(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    array = read_image(path, IMAGE[0], load_recipe("imagenet"))
    assert array.shape == (1, 3, 4, 6)
    expected = (np.array([1.0, 0.0, 0.2]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(array[0, :, 0, 0], expected, rtol=1e-5)


def test_order_of_channels_and_layout(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    recipe = ImageRecipe(scale=1.0, channels="BGR")
    np.testing.assert_array_equal(read_image(path, IMAGE[0], recipe)[0, :, 0, 0], [51, 0, 255])
    last = TensorSpec("x", "float32", (1, 4, 6, 3))
    np.testing.assert_array_equal(read_image(path, last, recipe)[0, 0, 0], [51, 0, 255])
    grey = TensorSpec("x", "float32", (1, 1, 4, 6))
    assert read_image(path, grey, ImageRecipe(mean=(0.5,), std=(0.5,))).shape == (1, 1, 4, 6)


def test_ways_to_resize(tmp_path: Path) -> None:
    path = picture(tmp_path / "tall.png", (4, 8), (255, 255, 255))
    padded = read_image(path, IMAGE[0], ImageRecipe(resize="pad"))[0, 0]
    np.testing.assert_array_equal(padded[:, :2], 1.0)
    np.testing.assert_array_equal(padded[:, 2:], 0.0)
    for resize in ("crop", "stretch"):
        np.testing.assert_array_equal(read_image(path, IMAGE[0], ImageRecipe(resize=resize, crop=0.5)), 1.0)


def test_presets_and_files_of_ones_own(tmp_path: Path) -> None:
    assert {"imagenet", "paddleocr-det"} <= load_presets().keys()
    own = tmp_path / "own.toml"
    own.write_text('mean = [0.5, 0.5, 0.5]\nresize = "pad"\n')
    assert load_recipe(str(own)) == ImageRecipe(mean=(0.5, 0.5, 0.5), resize="pad")
    for text, said in (
        ("men = 1", "mean"),
        ('resize = "stretsh"', "resize"),
        ("std = [0, 1, 1]", "std"),
        ("std = 1", ""),
    ):
        own.write_text(text)
        with pytest.raises(OptionError) as caught:
            load_recipe(str(own))
        assert said in caught.value.message + caught.value.hint
    with pytest.raises(OptionError, match="imagnet"):
        load_recipe("imagnet")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".npy", ".npz"])
def test_truncated_and_foreign_files_are_named(tmp_path: Path, ending: str) -> None:
    good, path = tmp_path / f"good{ending}", tmp_path / "data" / f"bad{ending}"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    if ending == ".npy":
        np.save(good, np.zeros(IMAGE[0].shape, np.float32))
    elif ending == ".npz":
        np.savez(good, x=np.zeros(IMAGE[0].shape, np.float32))
    else:
        Image.fromarray(noise).save(good)
    whole = good.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no such thing"):
        path.write_bytes(content)
        with pytest.raises(CalibrationError, match=f"bad{ending}") as caught:
            load_all(path.parent)
        assert "pickle" not in caught.value.message


def test_wrong_arrays_are_named(tmp_path: Path) -> None:
    for array, said in (
        (np.zeros((1, 3, 4, 5), np.float32), "shape"),
        (np.zeros((1, 3, 4, 6), np.complex64), "complex64"),
        (np.full((1, 3, 4, 6), np.nan, np.float32), "NaN"),
        (np.full((1, 3, 4, 6), np.inf, np.float32), "infinity"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(CalibrationError, match=said):
            find_samples(tmp_path, IMAGE, PLAIN)[0].load()


def test_empty_missing_and_unfit_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="does not exist"):
        find_samples(tmp_path / "none", IMAGE, PLAIN)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CalibrationError, match="holds no samples"):
        find_samples(tmp_path, IMAGE, PLAIN)
    with pytest.raises(CalibrationError, match=r"notes\.txt"):
        find_samples(tmp_path / "notes.txt", IMAGE, PLAIN)
    picture(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="a:0, b"):
        find_samples(tmp_path, TWO, PLAIN)
    with pytest.raises(CalibrationError, match="does not take one"):
        find_samples(tmp_path, (TensorSpec("x", "float32", (1, 7)),), PLAIN)[0].load()


def test_an_array_of_many_samples(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).random((5, 3, 4, 6), np.float32)
    np.save(tmp_path / "all.npy", whole)
    found = find_samples(tmp_path / "all.npy", IMAGE, PLAIN)
    np.testing.assert_array_equal(np.concatenate([ref.load()["x"] for ref in found]), whole)


def test_test_data_of_onnx(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    arrays = [np.ones((1, 2), np.float32), np.array(3)]
    for index, array in enumerate(arrays):
        (folder / f"input_{index}.pb").write_bytes(onnx.numpy_helper.from_array(array).SerializeToString())
    for source in (tmp_path, folder):
        assert find_samples(source, TWO, PLAIN)[0].load()["b"] == 3
    (folder / "input_1.pb").write_bytes(b"\xff\xff")
    with pytest.raises(CalibrationError, match=r"input_1\.pb"):
        find_samples(tmp_path, TWO, PLAIN)[0].load()
    (folder / "input_1.pb").unlink()
    with pytest.raises(CalibrationError, match=r"input_1\.pb does not exist"):
        find_samples(tmp_path, TWO, PLAIN)


def test_iterables_are_read_once_and_kept(tmp_path: Path) -> None:
    given = ({"a:0": np.full((1, 2), k, np.float32), "b": np.array(k)} for k in range(3))
    found = spool_samples(given, TWO, tmp_path)
    assert [int(ref.load()["b"]) for ref in found] == [0, 1, 2]
    assert found[1].load()["a:0"].tolist() == [[1, 1]]
    with pytest.raises(CalibrationError, match="sample 0 lacks"):
        spool_samples([{"b": np.array(1)}], TWO, tmp_path)
    with pytest.raises(CalibrationError, match="no sample"):
        spool_samples([], TWO, tmp_path)


def test_the_division_depends_on_content_and_seed_alone() -> None:
    first, shuffled = refs(50), refs(50)
    random.Random(1).shuffle(shuffled)
    one, other = split_samples(first), split_samples(shuffled)
    assert (one.calibration, one.held_out) == (other.calibration, other.held_out)
    assert len(one.held_out) == 10
    assert not set(one.held_out) & set(one.calibration)
    assert split_samples(first, seed=1).held_out != one.held_out
    assert split_samples([*first, *first]) == one


def test_too_few_samples() -> None:
    with pytest.raises(CalibrationError, match="There are 3 samples; calibration needs at least 8"):
        split_samples(refs(3))
    with pytest.raises(CalibrationError, match="3 of them twice"):
        split_samples([*refs(3), *refs(3)])
    few = split_samples(refs(3), fewest=3)
    assert few.overlap
    assert few.held_out == few.calibration
