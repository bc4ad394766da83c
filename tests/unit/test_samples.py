from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tvmbuild.checking.samples import load_samples
from tvmbuild.support.errors import InputDataError
from tvmbuild.support.tensor import TensorSpec

PICTURE = TensorSpec("x", "float32", (1, 3, 4, 6))
STATE = TensorSpec("state", "float32", (2, 2))


def test_random_samples_repeat_with_their_seed() -> None:
    first, again, other = (load_samples([PICTURE], None, count=2, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 2
    np.testing.assert_array_equal(first[1]["x"], again[1]["x"])
    np.testing.assert_array_equal(first[1]["x"], other[0]["x"])
    assert not np.array_equal(first[0]["x"], first[1]["x"])


def test_arrays_and_archives(tmp_path: Path) -> None:
    values = np.arange(72, dtype=np.float64).reshape(PICTURE.shape)
    np.save(tmp_path / "a.npy", values)
    sample = load_samples([PICTURE], tmp_path / "a.npy")[0]
    assert sample["x"].dtype == np.float32
    np.testing.assert_array_equal(sample["x"], values)
    np.savez(tmp_path / "b.npz", x=values, state=np.ones((2, 2)), more=1)
    assert set(load_samples([PICTURE, STATE], tmp_path / "b.npz")[0]) == {"x", "state"}


@pytest.mark.parametrize(("shape", "expected"), [((1, 3, 4, 6), (0, slice(None), 2, 3)), ((1, 4, 6, 3), (0, 2, 3))])
def test_pictures_become_rgb_in_the_inputs_layout(tmp_path: Path, shape: tuple[int, ...], expected: Any) -> None:
    Image.new("RGB", (12, 8), (255, 51, 0)).save(tmp_path / "p.png")
    sample = load_samples([TensorSpec("x", "float32", shape)], tmp_path / "p.png")[0]["x"]
    assert sample.shape == shape
    np.testing.assert_allclose(sample[expected], [1.0, 0.2, 0.0], atol=1e-6)


def test_a_folder_is_read_in_order_up_to_the_count(tmp_path: Path) -> None:
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.full(PICTURE.shape, k, np.float32))
    (tmp_path / "notes.txt").write_text("not an input")
    samples = load_samples([PICTURE], tmp_path, count=2)
    assert [float(sample["x"].flat[0]) for sample in samples] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "cannot be read"),
        ("a.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
        ("a.npz", b"PK\x03\x04", "cannot be read"),
        ("a.png", b"\x89PNG\r\n", "cannot be read"),
        ("a.txt", b"1 2 3", "is no sample input"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputDataError, match=message):
        load_samples([PICTURE], tmp_path / name)


def test_data_that_does_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((1, 3, 4, 5), np.float32))
    with pytest.raises(InputDataError, match=r"has shape \[1, 3, 4, 5\]; the model takes \[1, 3, 4, 6\]"):
        load_samples([PICTURE], tmp_path / "shape.npy")
    np.save(tmp_path / "dtype.npy", np.zeros(PICTURE.shape, np.complex64))
    with pytest.raises(InputDataError, match="is complex64"):
        load_samples([PICTURE], tmp_path / "dtype.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputDataError, match="cannot be read"):
        load_samples([PICTURE], tmp_path / "pickled.npy")
    with pytest.raises(InputDataError, match="the model has 2 inputs"):
        load_samples([PICTURE, STATE], tmp_path / "shape.npy")
    np.savez(tmp_path / "some.npz", x=np.zeros(PICTURE.shape, np.float32))
    with pytest.raises(InputDataError, match="lacks state"):
        load_samples([PICTURE, STATE], tmp_path / "some.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputDataError, match="has no sample inputs"):
        load_samples([PICTURE], tmp_path / "empty")
    with pytest.raises(InputDataError, match="does not exist"):
        load_samples([PICTURE], tmp_path / "none.npy")
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(InputDataError, match="does not take one"):
        load_samples([TensorSpec("x", "float32", (1, 10))], tmp_path / "p.png")
