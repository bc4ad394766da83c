"""The files that a build's result depends on, for depfiles and for the digest of a cached build."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tvmbuild.options import BuildOptions, QuantizeOptions
from tvmbuild.resolve import PROJECT_FILE
from tvmbuild.target import target_file


def build_dependencies(model: Path, options: BuildOptions, quantization: QuantizeOptions | None = None) -> list[Path]:
    """Return the files that make has to compare an artifact with.

    Folders are among them: their time changes when a file is added or removed.

    Args:
        model: the ONNX file that was given; its external data are found here.
        options: of the build.
        quantization: of an int8 build of a float model.

    Raises:
        ModelError: the model cannot be read.
    """
    from tvmbuild.onnx_model.open import open_model

    external = [model.parent / file.name for file in open_model(model).external]
    inputs = [model, *external, target_file(options.target), Path(PROJECT_FILE)]
    if options.use_records:
        # The target's own name is that of its file.
        inputs += _tree(options.records / target_file(options.target).stem)
    if quantization is not None:
        inputs += _tree(options.calibrate) if options.calibrate else []
        inputs += quantization_files(quantization)
    return [path for path in inputs if path.exists()]


def quantization_files(options: QuantizeOptions) -> list[Path]:
    """Return the files that quantization options name: calibration table, image recipe, the metric's code."""
    named = [options.table] if options.table else []
    if options.images.endswith(".toml"):
        named.append(Path(options.images))
    module = re.fullmatch(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*", options.metric)
    if module:
        folders = Path(module[1].replace(".", "/"))
        named += [folders.with_suffix(".py"), folders / "__init__.py"]
    else:
        named += map(Path, shlex.split(options.metric))
    return [path for path in named if path.is_file()]


def _tree(top: Path) -> list[Path]:
    return [top, *sorted(path for path in top.rglob("*") if "__pycache__" not in path.parts)]
