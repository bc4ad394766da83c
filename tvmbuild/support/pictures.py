"""The one reader of pictures, for calibration, ``verify`` and ``bench``: a file becomes the pixels of an input."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvmbuild.support.errors import InputDataError
from tvmbuild.support.paths import require_file
from tvmbuild.support.tensor import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

#: Endings read as pictures.
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
#: What may be in them, whatever the ending: Pillow knows many more formats, some with readers of doubtful quality.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
#: Of the largest picture that is read. A file of a few kilobytes can claim any number.
MOST_PIXELS = 100_000_000
RESIZES = ("stretch", "crop", "pad")


@dataclass(frozen=True)
class PictureInput:
    """The input that a picture becomes.

    Attributes:
        height: in pixels.
        width: in pixels.
        depth: 3 for RGB, 1 for luminance.
        channels_first: NCHW instead of NHWC.
    """

    height: int
    width: int
    depth: int
    channels_first: bool

    def arrange(self, pixels: np.ndarray) -> np.ndarray:
        """Bring pixels, [height, width, depth], into the input's shape and layout."""
        return np.ascontiguousarray((pixels.transpose(2, 0, 1) if self.channels_first else pixels)[np.newaxis])


def picture_input(path: Path, spec: TensorSpec, layout: str = "") -> PictureInput:
    """Return how a model's input takes a picture.

    Args:
        path: the picture, for the error.
        spec: the input.
        layout: "NCHW", "NHWC", or "" to tell by the shape.

    Raises:
        InputDataError: the input takes none.
    """
    shape = spec.shape
    first = len(shape) == 4 and shape[1] in (1, 3) and layout != "NHWC"
    last = len(shape) == 4 and shape[3] in (1, 3) and layout != "NCHW"
    if not (first or last) or shape[0] != 1 or spec.dtype not in ("float32", "float16", "float64"):
        raise InputDataError(
            f"{path} is a picture; the model's input {spec} does not take one.",
            "Give .npy or .npz files of that shape, or build with batch 1.",
        )
    height, width, depth = (shape[2], shape[3], shape[1]) if first else shape[1:]
    return PictureInput(height, width, depth, first)


def read_pixels(path: Path, wanted: PictureInput, resize: str = "stretch", crop: float = 1.0) -> np.ndarray:
    """Return a picture's pixels, 0 to 255, float32[height, width, depth], RGB or luminance.

    Samples of 16 bits are scaled to that range, the orientation that a camera noted is applied, transparency is ignored
    (as the usual training pipelines do).

    Args:
        path: a PNG, JPEG, BMP or WebP file.
        wanted: the size to bring it to.
        resize: "stretch", "crop" (the middle, in the input's proportions) or "pad" (zeros to the right and below).
        crop: share of the shorter side that the middle has, for "crop".

    Raises:
        InputDataError: the file cannot be read, is no picture, or has more than ``MOST_PIXELS`` pixels.
    """
    from PIL import Image

    try:
        require_file(path)
        with warnings.catch_warnings():
            # About sizes, which are checked below, and about transparency.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"it has {image.width} x {image.height} pixels; at most {MOST_PIXELS} are read")
                fitted = _resized(_decoded(image, wanted.depth), (wanted.width, wanted.height), resize, crop)
    # Pillow lets SyntaxError, struct.error, KeyError and others out of its readers for some damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputDataError(
            f"The picture {path} cannot be read: {reason}.", "Remove it, or save it again as PNG or JPEG."
        ) from error
    pixels = np.asarray(fitted, np.float32).reshape(wanted.height, wanted.width, -1)
    return np.broadcast_to(pixels, (wanted.height, wanted.width, wanted.depth))


def _decoded(image: Image, depth: int) -> Image:
    """Return the picture upright, as RGB or luminance of 8 bits, or as floats from 0 to 255 where it has more bits."""
    from PIL import Image as Images
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        # Pillow clips these at 255 when it converts them.
        return Images.fromarray(np.asarray(image, np.float32) * np.float32(255 / 65535))
    # Pillow makes luminance of few kinds of pixels, but RGB of all.
    colours = image if image.mode in ("1", "L", "RGB") else image.convert("RGB")
    return colours.convert("RGB" if depth == 3 else "L")


def _resized(image: Image, size: tuple[int, int], resize: str, crop: float) -> Image:
    from PIL import Image as Images
    from PIL import ImageOps

    width, height = size
    if resize == "stretch":
        return image.resize(size, Images.Resampling.BILINEAR)
    if resize == "crop":
        enlarged = (max(round(width / crop), width), max(round(height / crop), height))
        whole = ImageOps.fit(image, enlarged, Images.Resampling.BILINEAR)
        left, top = (enlarged[0] - width) // 2, (enlarged[1] - height) // 2
        return whole.crop((left, top, left + width, top + height))
    share = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    canvas = Images.new(image.mode, size)
    canvas.paste(image.resize(inner, Images.Resampling.BILINEAR), (0, 0))
    return canvas
