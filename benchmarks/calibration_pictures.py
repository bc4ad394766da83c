"""Pictures to calibrate with: crops of the few real ones that are fetched, the same on every machine.

A crop is scaled, now and then mirrored or turned, and made lighter or darker, as photographs of one kind differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

#: Pictures of text and of other things, as ``devtools/models.toml`` names them.
TEXT = ("page.png", "text.png")
PHOTOS = ("astronaut.png", "chelsea.png", "china.jpg", "coffee.png", "flower.jpg")

Make = Callable[[np.random.Generator, Path], Image.Image]


def write_pictures(kind: str, images: Path, folder: Path, count: int, seed: int = 0) -> Path:
    """Fill a folder with pictures of one kind and return it; a folder that has them is left alone.

    Args:
        kind: "text" (parts of pages), "lines" (lines of text, some upside down), "pages" (turned by quarters) or
            "photos".
        images: folder of the pictures that are fetched.
        folder: receives 000.png, 001.png, ...
        count: how many.
        seed: of the crops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        picture = KINDS[kind](rng, images)
        path = folder / f"{index:05}.png"
        if not path.is_file():
            aside = path.with_suffix(".partial")
            picture.save(aside, "PNG")
            aside.replace(path)
    return folder


def _crop(rng: np.random.Generator, images: Path, names: Sequence[str], least: float) -> Image.Image:
    """Return a part of a picture, each side at least ``least`` of the whole."""
    with Image.open(images / names[int(rng.integers(len(names)))]) as opened:
        picture = opened.convert("RGB")
    width, height = (max(8, int(side * rng.uniform(least, 1.0))) for side in picture.size)
    left = int(rng.integers(0, picture.width - width + 1))
    top = int(rng.integers(0, picture.height - height + 1))
    part = picture.crop((left, top, left + width, top + height))
    return ImageEnhance.Brightness(part).enhance(float(rng.uniform(0.6, 1.3)))


def _text(rng: np.random.Generator, images: Path) -> Image.Image:
    return _crop(rng, images, TEXT, 0.4)


def _photo(rng: np.random.Generator, images: Path) -> Image.Image:
    part = _crop(rng, images, PHOTOS, 0.4)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _page(rng: np.random.Generator, images: Path) -> Image.Image:
    part = _crop(rng, images, (*TEXT, *PHOTOS), 0.6)
    return part.rotate(90 * int(rng.integers(4)), expand=True)


def _line(rng: np.random.Generator, images: Path) -> Image.Image:
    """Return a strip about as high as a line of page.png is."""
    with Image.open(images / "page.png") as opened:
        picture = opened.convert("RGB")
    height = int(rng.integers(14, 26))
    width = int(height * rng.uniform(3.0, 7.0))
    left, top = int(rng.integers(0, picture.width - width)), int(rng.integers(0, picture.height - height))
    strip = picture.crop((left, top, left + width, top + height)).resize(
        (4 * width, 4 * height), Image.Resampling.BICUBIC
    )
    strip = ImageEnhance.Brightness(strip).enhance(float(rng.uniform(0.6, 1.3)))
    return strip.rotate(180) if rng.random() < 0.3 else strip


KINDS: dict[str, Make] = {"text": _text, "lines": _line, "pages": _page, "photos": _photo}
