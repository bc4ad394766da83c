"""How the weights of a model lie in its library, for people and for the manifest: in which form, and why larger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmbuild.schedules.legalize.storage import StoredLayer

#: Bytes of a weight of a model and of one stored as float16.
_SINGLE, _HALF = 4, 2

#: Share of the model's weights, and bytes, from which it is said why the library's take more: less shows in no figure.
_WORTH_SAYING = 0.05
_SHOWN = 100_000

#: What enlarges weights, by the beginning of the algorithm's name.
_CAUSES = {"winograd": "weights transformed for Winograd's algorithm", "strassen": "those for Strassen's algorithm"}
_ROUNDED = "channels rounded up to whole vectors"


def summary(layers: Sequence[StoredLayer]) -> dict[str, Any]:
    """Return bytes in the model and in the library, layers in float16, and why the others are not, as plain data."""
    return {
        "layers": len(layers),
        "model_bytes": sum(layer.elements for layer in layers) * _SINGLE,
        "bytes": sum(layer.bytes for layer in layers),
        "half_layers": sum(layer.half for layer in layers),
        "enlarged": dict(_enlarged(layers)),
        "kept": [{"node": layer.workload, "reason": layer.reason} for layer in layers if layer.reason],
    }


def lines(layers: Sequence[StoredLayer], verbose: bool = False) -> list[str]:
    """Return what there is to say of a build's weights: nothing where they lie as in the model."""
    told = []
    if any(layer.half or layer.reason for layer in layers):
        halves = [layer for layer in layers if layer.half]
        stored = sum(layer.bytes for layer in halves)
        told.append(f"{len(halves)} of {len(layers)} layers have their weights as float16, {_megabytes(stored)}")
        kept = [layer for layer in layers if layer.reason]
        if verbose:
            told += [f"  {layer.workload}: {layer.reason}" for layer in kept]
        else:
            told += [f"  {count}: {why}" for why, count in Counter(layer.reason for layer in kept).most_common()]
    model, library = sum(layer.elements for layer in layers) * _SINGLE, sum(layer.bytes for layer in layers)
    if library > model * (1 + _WORTH_SAYING) and library >= model + _SHOWN:
        causes = ", ".join(f"{_megabytes(size)} by {cause}" for cause, size in _enlarged(layers))
        told.append(
            f"the weights take {_megabytes(library)} where the model's take {_megabytes(model)}, larger {causes}; "
            "--prefer size avoids it"
        )
    return told


def _enlarged(layers: Sequence[StoredLayer]) -> list[tuple[str, int]]:
    """Return by how many bytes each cause enlarges the weights, the largest first."""
    sizes: Counter[str] = Counter()
    for layer in layers:
        plain = layer.elements * (_HALF if layer.half else _SINGLE)
        cause = next((text for name, text in _CAUSES.items() if layer.algorithm.startswith(name)), _ROUNDED)
        sizes[cause] += layer.bytes - plain
    return [(cause, size) for cause, size in sizes.most_common() if size > 0]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
