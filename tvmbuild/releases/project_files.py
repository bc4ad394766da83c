"""The files that ``tvmbuild init`` writes into a user's project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tvmbuild.onnx_model.prepare import open_fixed
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.releases.placeholders import ENDING, Value, fill_template
from tvmbuild.releases.templates import check_name
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.errors import OptionError
from tvmbuild.target.target import load_target

_TEMPLATES = Path(__file__).with_name("project")
#: Template and place of each file.
FILES = {
    "Makefile": "Makefile",
    "tvmbuild.toml": "tvmbuild.toml",
    "gitignore": ".gitignore",
    "github.yml": ".github/workflows/models.yml",
    "gitlab-ci.yml": ".gitlab-ci.yml",
}


def write_project(
    folder: Path,
    model: str,
    targets: Sequence[str],
    shapes: Sequence[str],
    *,
    frozen: Sequence[str] = (),
    source: str = "",
) -> list[Path]:
    """Write Makefile, tvmbuild.toml, .gitignore and recipes for two CI systems; files that are there stay as they are.

    Args:
        folder: the project.
        model: path of the ONNX file, relative to the project.
        targets: names of the boards.
        shapes: input shapes ("x=1,3,224,224"); where the model is there already, an open batch that they leave out is
            written as 1.
        frozen: inputs frozen to a constant ("sr=16000").
        source: what pip installs tvmbuild from in CI; "" for the project's owner to fill in.

    Returns:
        The files that were written.

    Raises:
        OptionError: the model's name cannot stand in a Makefile, or all files are there already.
        TargetError: a target is unknown.
        ModelError, ShapeError, UnsupportedOperatorError: the model is there and cannot be built so.
        OutputError: the folder cannot be written.
    """
    stem = Path(model).stem
    check_name(stem, "model name")
    if not re.fullmatch(r"[A-Za-z0-9._+/-]+", model):
        raise OptionError(f"The path {model!r} cannot stand in a Makefile.", "Use letters, digits and . _ + - / in it.")
    for target in targets:
        load_target(target)
    shapes = _checked_shapes(folder / model, shapes, frozen)
    values: dict[str, Value] = {
        "MODEL": model,
        "NAME": stem,
        "TARGETS": tuple(targets),
        "SHAPES": tuple(shapes),
        "VALUES": tuple(frozen),
        "SOURCE": source,
    }
    written = []
    for template, place in FILES.items():
        path = folder / place
        if not path.exists():
            write_whole(path, fill_template(_TEMPLATES / f"{template}{ENDING}", values))
            written.append(path)
    if not written:
        raise OptionError(f"{folder} has all of {', '.join(FILES.values())} already.", "Remove what should be new.")
    return written


def _checked_shapes(model: Path, shapes: Sequence[str], values: Sequence[str]) -> Sequence[str]:
    """Return the shapes to write down: those given, and the batch of 1 that a build would take for the open ones."""
    given, frozen = parse_shapes(shapes), parse_values(values)
    if not model.exists():
        return shapes
    fixed = open_fixed(model, given, frozen)
    assumed = [f"{name}={','.join(map(str, shape))}" for name, shape in fixed.shapes.items() if name not in given]
    return [*shapes, *assumed]
