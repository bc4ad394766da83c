"""Odd .npy and .npz files, through verify's samples and through calibration's."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tvmbuild.checking.samples import load_samples
from tvmbuild.quantization.calibration.image import ImageRecipe
from tvmbuild.quantization.calibration.sources import find_samples
from tvmbuild.support.errors import CalibrationError, InputDataError
from tvmbuild.support.tensor import TensorSpec

SPEC = TensorSpec("x", "float32", (1, 2))
REFUSED = (InputDataError, CalibrationError)


def verify_door(path: Path) -> np.ndarray:
    return load_samples([SPEC], path)[0]["x"]


def calibration_door(path: Path) -> np.ndarray:
    return find_samples(path, (SPEC,), ImageRecipe())[0].load()["x"]


both_doors = pytest.mark.parametrize("door", [verify_door, calibration_door])


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


GOOD = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}", struct.pack("<2f", 3, 4))
ODD = {
    "impossible size": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}"),
    "size beyond 64 bits": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**40},)}}"),
    "memory of a terabyte": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (250000000000,)}"),
    "negative size": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}"),
    "rank 1000": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 1000}}}"),
    "no header": npy("{}"),
    "deep header": npy("(" * 5000),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2)}", bytes(16)),
    "odd dtype": npy("{'descr': ('a', 'b', 'c'), 'fortran_order': False, 'shape': (1, 2)}", bytes(16)),
    "texts": npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1, 2)}", bytes(32)),
    "records": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2)}", bytes(32)),
    "no dtype of any size": npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1, 2)}"),
    "dates": npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1, 2)}", bytes(16)),
    "cut off": GOOD[:-1],
    "an archive": b"PK\x05\x06" + bytes(18),
}


@both_doors
@pytest.mark.parametrize("what", sorted(ODD))
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_odd_arrays_are_refused(door: Callable[[Path], np.ndarray], what: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".npy":
        path.write_bytes(ODD[what])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", ODD[what])
    with pytest.raises(REFUSED, match=f"a{ending}"):
        door(path)


def zipped(method: int = zipfile.ZIP_STORED, name: str = "x.npy", content: bytes = GOOD) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        archive.writestr(name, content)
    return data.getvalue()


def encrypted() -> bytes:
    """Set the bit "encrypted" in the member's header and in the directory."""
    data = bytearray(zipped())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def unknown_compression() -> bytes:
    data = bytearray(zipped())
    data[8] = 99
    data[data.index(b"PK\x01\x02") + 10] = 99
    return bytes(data)


def broken_stream() -> bytes:
    data = bytearray(zipped(zipfile.ZIP_DEFLATED, content=GOOD + bytes(1000)))
    data[40:44] = b"\xff\xff\xff\xff"
    return bytes(data)


ARCHIVES = {
    "encrypted": encrypted,
    "unknown compression": unknown_compression,
    "broken stream": broken_stream,
    "no array": lambda: zipped(name="x", content=b"text"),
    "another name": lambda: zipped(name="y.npy"),
    "empty": lambda: b"PK\x05\x06" + bytes(18),
    "bomb": lambda: zipped(zipfile.ZIP_DEFLATED, content=GOOD + bytes(10_000_000)),
}


@both_doors
@pytest.mark.parametrize("what", sorted(ARCHIVES))
def test_odd_archives_are_refused(door: Callable[[Path], np.ndarray], what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(ARCHIVES[what]())
    with pytest.raises(REFUSED, match=r"a\.npz"):
        door(path)


@both_doors
def test_good_ones_are_read_in_any_order_of_bytes_and_axes(door: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    for array in (np.array([[3, 4]], ">f8"), np.asfortranarray([[3, 4]], "<f2"), np.array([[3, 4]], np.float32)):
        np.save(tmp_path / "a.npy", array)
        np.savez_compressed(tmp_path / "a.npz", x=array, more=np.ones(3))
        for name in ("a.npy", "a.npz"):
            found = door(tmp_path / name)
            assert found.tolist() == [[3, 4]]
            assert found.dtype == np.float32
            assert type(found) is np.ndarray


def test_empty_and_scalar_arrays(tmp_path: Path) -> None:
    for shape in ((), (0, 3)):
        np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
        assert load_samples([TensorSpec("x", "float32", shape)], tmp_path / "a.npy")[0]["x"].shape == shape


@both_doors
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_pipe_is_not_waited_for(door: Callable[[Path], np.ndarray], ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"a{ending}")
    with pytest.raises(REFUSED):
        door(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    "tensor",
    [
        onnx.TensorProto(dims=[1, 2], data_type=99),
        onnx.TensorProto(dims=[-1, 2], data_type=1),
        onnx.TensorProto(dims=[10**12, 10**12], data_type=1),
        onnx.TensorProto(dims=[1, 2], data_type=8, string_data=[b"a", b"b"]),
        onnx.TensorProto(
            dims=[1, 2],
            data_type=1,
            data_location=onnx.TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key="location", value="/etc/passwd")],
        ),
    ],
)
def test_odd_test_data_is_refused(tensor: onnx.TensorProto, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(CalibrationError):
        find_samples(folder, (SPEC,), ImageRecipe())[0].load()
