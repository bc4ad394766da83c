"""Pictures of every usual kind, through the two doors that they come in by: verify's samples and calibration's."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvmbuild.checking.samples import load_samples
from tvmbuild.quantization.calibration.image import ImageRecipe
from tvmbuild.quantization.calibration.sources import find_samples
from tvmbuild.support import pictures
from tvmbuild.support.errors import CalibrationError, InputDataError
from tvmbuild.support.tensor import TensorSpec

COLOUR = TensorSpec("x", "float32", (1, 3, 8, 8))
GREY = TensorSpec("x", "float32", (1, 1, 8, 8))
ORIENTATION = 0x0112

Door = Callable[[TensorSpec, Path], np.ndarray]


def verify_door(spec: TensorSpec, path: Path) -> np.ndarray:
    return load_samples([spec], path)[0]["x"]


def calibration_door(spec: TensorSpec, path: Path) -> np.ndarray:
    return find_samples(path, (spec,), ImageRecipe())[0].load()["x"]


both_doors = pytest.mark.parametrize("door", [verify_door, calibration_door])


@both_doors
@pytest.mark.parametrize("spec", [COLOUR, GREY])
def test_16_bit_grey_is_scaled(door: Door, spec: TensorSpec, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    found = door(spec, tmp_path / "ramp.png")
    np.testing.assert_allclose(found, np.broadcast_to(ramp / 65535, spec.shape), atol=1e-6)
    assert found.mean() == pytest.approx(0.5, abs=1e-3)


def png_16_bit(path: Path, colour_type: int, samples: tuple[int, ...]) -> None:
    """Write 8 by 8 pixels of one colour, 16 bits a sample, which Pillow cannot write with more than one channel."""
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * 8)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@both_doors
@pytest.mark.parametrize(
    ("colour_type", "samples", "expected"),
    [
        (2, (65535, 32768, 0), (1.0, 0.5, 0.0)),
        (6, (65535, 32768, 0, 9), (1.0, 0.5, 0.0)),
        (4, (32768, 65535), (0.5, 0.5, 0.5)),
    ],
)
def test_16_bit_colours_and_alpha(
    door: Door, colour_type: int, samples: tuple[int, ...], expected: tuple[float, ...], tmp_path: Path
) -> None:
    png_16_bit(tmp_path / "p.png", colour_type, samples)
    np.testing.assert_allclose(door(COLOUR, tmp_path / "p.png")[0, :, 4, 4], expected, atol=1 / 255)


@both_doors
@pytest.mark.parametrize(
    ("mode", "ending", "colour", "expected"),
    [
        ("1", ".png", 1, (1.0, 1.0, 1.0)),
        ("L", ".png", 51, (0.2, 0.2, 0.2)),
        ("LA", ".png", (51, 0), (0.2, 0.2, 0.2)),
        ("P", ".png", (255, 51, 0), (1.0, 0.2, 0.0)),
        ("RGBA", ".png", (255, 51, 0, 0), (1.0, 0.2, 0.0)),
        ("RGBA", ".webp", (255, 51, 0, 255), (1.0, 0.2, 0.0)),
        ("CMYK", ".jpg", (0, 204, 255, 0), (1.0, 0.2, 0.0)),
        ("RGB", ".bmp", (255, 51, 0), (1.0, 0.2, 0.0)),
    ],
)
def test_kinds_of_pixels(
    door: Door, mode: str, ending: str, colour: object, expected: tuple[float, ...], tmp_path: Path
) -> None:
    path = tmp_path / f"p{ending}"
    image = Image.new("RGB" if mode == "P" else mode, (8, 8), colour)  # type: ignore[arg-type]
    (image.quantize(4) if mode == "P" else image).save(path)
    np.testing.assert_allclose(door(COLOUR, path)[0, :, 4, 4], expected, atol=0.03)
    luminance = np.dot(expected, [0.299, 0.587, 0.114])
    np.testing.assert_allclose(door(GREY, path)[0, 0, 4, 4], luminance, atol=0.03)


@both_doors
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_orientation_is_that_of_the_camera(door: Door, ending: str, tmp_path: Path) -> None:
    # The upper half is bright as the picture is to be seen; the file has it turned by 90 degrees.
    seen = np.zeros((16, 16, 3), np.uint8)
    seen[:8] = 255
    turned = Image.fromarray(np.rot90(seen).copy())
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned.save(tmp_path / f"p{ending}", exif=exif)
    found = door(COLOUR, tmp_path / f"p{ending}")[0, 0]
    assert found[:3].min() > 0.9
    assert found[5:].max() < 0.1


@both_doors
def test_16_bit_grey_is_turned_too(door: Door, tmp_path: Path) -> None:
    seen = np.zeros((8, 8), np.uint16)
    seen[:4] = 65535
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.rot90(seen).copy()).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(door(GREY, tmp_path / "p.png")[0, 0], seen / 65535)


@both_doors
def test_bombs_are_refused_by_their_pixels(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 599)
    with pytest.raises((InputDataError, CalibrationError), match=r"bomb\.png.*30 x 20 pixels"):
        door(COLOUR, tmp_path / "bomb.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 600)
    assert door(COLOUR, tmp_path / "bomb.png").shape == COLOUR.shape


@both_doors
def test_a_header_of_gigantic_size_is_refused_at_once(door: Door, tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", 0))
    with pytest.raises((InputDataError, CalibrationError), match="cannot be read"):
        door(COLOUR, tmp_path / "p.png")


@both_doors
def test_other_formats_under_a_pictures_name_are_refused(door: Door, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "p.tiff")
    (tmp_path / "p.tiff").rename(tmp_path / "p.png")
    with pytest.raises((InputDataError, CalibrationError), match="cannot be read"):
        door(COLOUR, tmp_path / "p.png")


def test_both_doors_give_the_same_values(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    np.testing.assert_allclose(
        verify_door(COLOUR, tmp_path / "p.png"), calibration_door(COLOUR, tmp_path / "p.png"), rtol=1e-6
    )


@both_doors
def test_a_pipe_is_not_waited_for(door: Door, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    with pytest.raises((InputDataError, CalibrationError)):
        door(COLOUR, tmp_path / "p.png")
