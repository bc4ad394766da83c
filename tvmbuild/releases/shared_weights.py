"""The libraries of one model for several boards, with the weights on which they agree stored once.

Boards pack most weights alike. Those that are equal, byte by byte, in the same libraries go into a library of their
own, ``weights-<digest>.so``, which holds nothing but read-only data; each model's library is linked to those that it
needs and finds them in its own folder. The system's loader does it all, so nothing that loads a model has to know: the
runner, a C program, ``tvm.runtime.load_module``. The pages are mapped and read on demand, as those of other weights.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tvmbuild.artifact.open import Artifact
from tvmbuild.artifact.relink import extract_objects
from tvmbuild.codegen.elf import version_key
from tvmbuild.codegen.link import link_data, link_library
from tvmbuild.codegen.toolchain import Toolchain, find_toolchain
from tvmbuild.codegen.weight_object import OBJECT_NAME, TENSORS_NAME, StoredWeight, compile_data, stored_weights
from tvmbuild.support import progress
from tvmbuild.support.errors import ArtifactError
from tvmbuild.target.target import Target

#: Less is not worth a file: a library of data takes as much itself, for the page on which each part of it starts.
_LEAST_BYTES = 1 << 16


@dataclass(frozen=True)
class _Parts:
    """What a library is linked from.

    Attributes:
        target: what for.
        toolchain: that of its build.
        objects: all of it.
        weights: those in ``weights.o``; empty where they cannot be told apart.
    """

    target: Target
    toolchain: Toolchain
    objects: list[Path]
    weights: list[StoredWeight]


def link_together(boards: Sequence[tuple[Artifact, Target]], folder: Path) -> None:
    """Link the libraries of one model anew, from their .tar files, so that they share their weights.

    All are linked for the oldest glibc among the targets: it is one bundle that has to load.

    Args:
        boards: the model, built for each target; each has its .tar.
        folder: receives ``<name>.so`` of each artifact and the libraries of weights.

    Raises:
        ArtifactError: a .tar is damaged.
        ToolchainError: the toolchain that built an artifact is not installed.
        CompileError: the linker refused the objects.
    """
    oldest = min((target.glibc for _, target in boards), key=version_key)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-shared-") as scratch, progress.stage("share weights") as step:
        parts = []
        for number, (artifact, target) in enumerate(boards):
            place = Path(scratch) / str(number)
            place.mkdir()
            parts.append(_parts(artifact, replace(target, glibc=oldest), place))
        groups = _groups(parts)
        libraries = {
            users: _link_group(weights, parts[users[0]], folder, Path(scratch)) for users, weights in groups.items()
        }
        shared = {weight.digest for weights in groups.values() for weight in weights}
        for number, each in enumerate(parts):
            needed = [library for users, library in libraries.items() if number in users]
            output = folder / f"{boards[number][0].manifest.name}.so"
            link_library(_own_objects(each, shared), output, each.target, each.toolchain, needed)
        step.advance(detail=_gain(parts, groups))


def _parts(artifact: Artifact, target: Target, place: Path) -> _Parts:
    objects = extract_objects(artifact.archive, place)
    names = [path.name for path in objects]
    toolchain = find_toolchain(target, str(artifact.manifest.toolchain["name"]))
    if TENSORS_NAME not in names:
        # No weights, or none that have names.
        return _Parts(target, toolchain, objects, [])
    try:
        return _Parts(target, toolchain, objects, stored_weights(place / OBJECT_NAME))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{artifact.archive} is damaged: {error}.", "Build it again.") from error


def _groups(parts: Sequence[_Parts]) -> dict[tuple[int, ...], list[StoredWeight]]:
    """Return the weights that several libraries have, by the numbers of these, in the order of the first."""
    users: dict[str, list[int]] = {}
    for number, each in enumerate(parts):
        for weight in each.weights:
            users.setdefault(weight.digest, []).append(number)
    groups: dict[tuple[int, ...], dict[str, StoredWeight]] = {}
    for each in parts:
        for weight in each.weights:
            if len(users[weight.digest]) > 1:
                groups.setdefault(tuple(users[weight.digest]), {}).setdefault(weight.digest, weight)
    whole = {numbers: list(weights.values()) for numbers, weights in groups.items()}
    return {numbers: weights for numbers, weights in whole.items() if _size(weights) >= _LEAST_BYTES}


def _link_group(weights: Sequence[StoredWeight], user: _Parts, folder: Path, scratch: Path) -> Path:
    digest = hashlib.sha256(" ".join(weight.digest for weight in weights).encode()).hexdigest()
    library = folder / f"weights-{digest[:16]}.so"
    data = scratch / f"{digest}.o"
    compile_data(weights, data, user.toolchain, visible=True)
    link_data(data, library, user.target, user.toolchain)
    return library


def _own_objects(parts: _Parts, shared: set[str]) -> list[Path]:
    """Return the objects of a library with its own weights alone."""
    own = [weight for weight in parts.weights if weight.digest not in shared]
    if len(own) == len(parts.weights):
        return parts.objects
    others = [path for path in parts.objects if path.name != OBJECT_NAME]
    if not own:
        return others
    data = own[0].path.with_name("own-weights.o")
    compile_data(own, data, parts.toolchain)
    return [*others, data]


def _size(weights: Sequence[StoredWeight]) -> int:
    return sum(weight.bytes for weight in weights)


def _gain(parts: Sequence[_Parts], groups: dict[tuple[int, ...], list[StoredWeight]]) -> str:
    before = sum(_size(each.weights) for each in parts)
    saved = sum((len(users) - 1) * _size(weights) for users, weights in groups.items())
    return f"{before / 1e6:.1f} MB of weights stored in {(before - saved) / 1e6:.1f} MB"
