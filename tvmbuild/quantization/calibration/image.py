"""Pictures as model inputs: how to resize and normalize them, from a preset or a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from tvmbuild.quantization.calibration.sample_set import as_calibration
from tvmbuild.support.border import Border, Finite
from tvmbuild.support.errors import OptionError
from tvmbuild.support.pictures import RESIZES, picture_input, read_pixels
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.support.tensor import TensorSpec

_CHANNELS = Meta(min_length=1, max_length=3)


@dataclass(frozen=True)
class ImageRecipe:
    """How a picture becomes an input: (pixel * scale - mean) / std.

    Attributes:
        about: what it is for.
        mean: per channel, in the order of ``channels``.
        std: likewise.
        scale: factor of the pixels, which are 0..255.
        channels: "RGB" or "BGR"; a model with one channel gets luminance.
        resize: "stretch", "crop" or "pad".
        crop: share of the shorter side that the cropped middle has; for "crop".
        layout: "NCHW", "NHWC", or "" to tell by the input's shape.
    """

    about: str = ""
    mean: Annotated[tuple[Finite, ...], _CHANNELS] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Annotated[float, Meta(ge=1e-30, le=1e30)], ...], _CHANNELS] = (1.0, 1.0, 1.0)
    scale: Finite = 1.0 / 255.0
    channels: str = "RGB"
    resize: str = "stretch"
    crop: Annotated[float, Meta(ge=0.01, le=1)] = 1.0
    layout: str = ""


def load_presets() -> dict[str, ImageRecipe]:
    """Return the built-in recipes by name."""
    tables = _BORDER.toml(Path(__file__).with_name("presets.toml"))
    return {name: _recipe(name, table) for name, table in tables.items()}


def load_recipe(name: str) -> ImageRecipe:
    """Return a preset by name, or the recipe in a TOML file (keys as in presets.toml, no table).

    Raises:
        OptionError: neither, or a file with unknown or wrong values.
    """
    presets = load_presets()
    if name in presets:
        return presets[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise OptionError(f"There is no image preset '{name}'.", did_you_mean(name, presets) + " Or give a .toml file.")
    return _recipe(name, _BORDER.toml(path))


_BORDER = Border(
    "The image recipe",
    OptionError,
    'Write mean = [0.5, 0.5, 0.5], std = [...], scale = 0.0039, channels = "RGB", resize = "crop".',
)


def _recipe(name: str, table: dict[str, Any]) -> ImageRecipe:
    recipe = _BORDER.checked(table, ImageRecipe, name)
    wrong = (
        (recipe.resize not in RESIZES and f"resize = {recipe.resize!r}")
        or (recipe.channels not in ("RGB", "BGR") and f"channels = {recipe.channels!r}")
        or (recipe.layout not in ("", "NCHW", "NHWC") and f"layout = {recipe.layout!r}")
        or (any(len(each) == 2 for each in (recipe.mean, recipe.std)) and "a mean or std not of 3 numbers")
    )
    if wrong:
        raise OptionError(f"The image recipe '{name}' has {wrong}.", _BORDER.hint)
    return recipe


def read_image(path: Path, spec: TensorSpec, recipe: ImageRecipe) -> np.ndarray:
    """Return a picture as an input of the model, in its dtype and shape.

    Raises:
        CalibrationError: the file is truncated or no picture, or the input does not take one.
    """
    with as_calibration():
        wanted = picture_input(path, spec, recipe.layout)
        pixels = read_pixels(path, wanted, recipe.resize, recipe.crop)
    if recipe.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(each, np.float32)[: wanted.depth] for each in (recipe.mean, recipe.std))
    return wanted.arrange((pixels * np.float32(recipe.scale) - mean) / std).astype(spec.dtype, copy=False)
