"""The texts of a bundle that depend on its model: placeholders (``@NAME@``) in ``files/`` filled in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tvmbuild.artifact.manifest import Manifest
from tvmbuild.codegen.runtime_libs import pinned_versions
from tvmbuild.releases.placeholders import ENDING, Code, Value, fill_template
from tvmbuild.support.errors import OptionError
from tvmbuild.support.tensor import TensorSpec

_FILES = Path(__file__).with_name("files")
#: Folder of the golden inputs and outputs.
GOLDEN = "golden"
#: What may be in a bundle's name: it stands in a shell script, in file names and in C strings.
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
#: What the names of files in a tar allow, with name and version in a folder's name and the name in a file's.
_LONGEST_NAME = 70
#: DLPack's codes of kinds of numbers.
_DLPACK_CODES = {"int": "kDLInt", "uint": "kDLUInt", "float": "kDLFloat", "bool": "kDLBool"}


def check_name(name: str, what: str) -> None:
    """Check that a name can stand in file names and scripts.

    Raises:
        OptionError: it has other characters than letters, digits and ``. _ + -``, starts with one of those, or is too
            long.
    """
    if len(name) > _LONGEST_NAME:
        raise OptionError(f"The {what} {name!r} is longer than {_LONGEST_NAME} characters.", "Give a shorter one.")
    if not _SAFE_NAME.fullmatch(name):
        raise OptionError(
            f"The {what} {name!r} cannot be part of a bundle's name.", "Use letters, digits and . _ + - in it."
        )


def golden_folder(names: Sequence[str], name: str) -> str:
    """Return where in a bundle the golden outputs of a library lie, among libraries with these names."""
    return GOLDEN if len(names) == 1 else f"{GOLDEN}/{name}"


def fill(name: str, title: str, manifests: Sequence[Manifest], version: str, model_license: str = "") -> str:
    """Return one of the texts in ``files/`` for a bundle.

    Args:
        name: of the file ("run.sh").
        title: the bundle's name.
        manifests: of the libraries in it; the examples use the one that asks least of a board.
        version: the release's.
        model_license: path of the model's licence in the bundle, or "".

    Raises:
        OptionError: a name cannot be written in the file's language.
    """
    tvm, ffi = pinned_versions()
    manifest = min(manifests, key=lambda one: len(one.target.get("features", ())))
    count = len(manifest.inputs)
    boards = [str(one.target.get("description", one.target.get("name", ""))) for one in manifests]
    outputs = golden_folder([one.name for one in manifests], manifest.name)
    values: dict[str, Value] = {
        "VERSION": version,
        "TITLE": title,
        "LIBRARY": f"{manifest.name}.so",
        "LIBRARY_HERE": f"./{manifest.name}.so",
        "MANIFESTS": ", ".join(f"{one.name}.json" for one in manifests),
        "DESCRIPTION": ", ".join(boards),
        "ARCH": str(manifest.target["triple"]).partition("-")[0],
        "GOLDEN_INPUTS": " ".join(f"golden/input_{index}.npy" for index in range(count)),
        "GOLDEN_OUTPUTS": outputs,
        "INPUTS": count,
        "PACKAGES": f"numpy apache-tvm=={tvm} apache-tvm-ffi=={ffi}",
        "MODEL_LICENSE": f": {model_license}" if model_license else "",
        "SHAPES": Code("\n".join(_shape_line(index, spec) for index, spec in enumerate(manifest.inputs))),
        "TENSORS": Code("\n".join(_tensor_line(index, spec) for index, spec in enumerate(manifest.inputs))),
    }
    return fill_template(_FILES / f"{name}{ENDING}", values)


def _shape_line(index: int, spec: TensorSpec) -> str:
    # C has no arrays without elements.
    sizes = ", ".join(map(str, spec.shape)) or "1"
    return f"static int64_t shape_{index}[] = {{{sizes}}};"


def _tensor_line(index: int, spec: TensorSpec) -> str:
    kind = spec.dtype.rstrip("0123456789")
    code, bits = _DLPACK_CODES.get(kind, "kDLFloat"), int(spec.dtype[len(kind) :] or 8)
    fields = f".device = {{kDLCPU, 0}}, .ndim = {len(spec.shape)}, .dtype = {{{code}, {bits}, 1}}"
    return f"    {{{fields}, .shape = shape_{index}}},"
