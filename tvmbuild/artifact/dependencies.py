"""The files that a build's result depends on, for depfiles and for the digest of a cached build."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.support.options import BuildOptions, QuantizeOptions
from tvmbuild.support.resolve import PROJECT_FILE
from tvmbuild.target.target import target_file


@dataclass(frozen=True)
class Dependencies:
    """What a build read.

    Attributes:
        present: files and folders; a folder's time changes when a file in it is added or removed.
        absent: what was looked for and not there: a build would read it if it were.
    """

    present: tuple[Path, ...]
    absent: tuple[Path, ...]


def build_dependencies(model: Path, options: BuildOptions, quantization: QuantizeOptions | None = None) -> Dependencies:
    """Return the files that make has to compare an artifact with.

    Args:
        model: the ONNX file that was given; its external data are found here.
        options: of the build.
        quantization: of an int8 build of a float model.

    Raises:
        ModelError: the model cannot be read.
    """
    from tvmbuild.onnx_model.intake.open import open_model
    from tvmbuild.support.budget import Budget, parse_limits

    budget = Budget(model, parse_limits(options.limit))
    external = [model.parent / file.name for file in open_model(model, budget).external]
    inputs = [model, *external, target_file(options.target), Path(PROJECT_FILE)]
    if options.use_records:
        # The target's own name is that of its file.
        inputs += _tree(options.records / target_file(options.target).stem)
    if quantization is not None:
        inputs += _tree(options.calibrate) if options.calibrate else []
        inputs += _named_files(quantization)
    there = {path: path.exists() for path in inputs}
    return Dependencies(
        tuple(path for path, found in there.items() if found), tuple(path for path, found in there.items() if not found)
    )


def quantization_files(options: QuantizeOptions) -> list[Path]:
    """Return the files that quantization options name: calibration table, image recipe, the metric's code."""
    return [path for path in _named_files(options) if path.is_file()]


def _named_files(options: QuantizeOptions) -> list[Path]:
    """Return what may be files that options name; of a command those words that are."""
    named = [options.table] if options.table else []
    if options.images.endswith(".toml"):
        named.append(Path(options.images))
    module = re.fullmatch(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*", options.metric)
    if module:
        folders = Path(module[1].replace(".", "/"))
        return [*named, folders.with_suffix(".py"), folders / "__init__.py"]
    return [*named, *(path for path in map(Path, shlex.split(options.metric)) if path.is_file())]


def _tree(top: Path) -> list[Path]:
    return [top, *sorted(path for path in top.rglob("*") if "__pycache__" not in path.parts)]
