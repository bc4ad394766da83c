"""What the parts of a manifest must have for its readers; they may have more, which is kept.

A manifest comes from anywhere. These types say what is read of it later, so that nothing further in has to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from tvmbuild.support.border import Bytes, Count, FileName, Finite, Line, Sha256, form
from tvmbuild.support.precision import Precision
from tvmbuild.support.tensor import LARGEST_ELEMENTS
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import Target

#: NumPy's names of the element types of inputs and outputs.
DType = Annotated[
    str, form(r"^(bool|u?int(8|16|32|64)|float(16|32|64)|bfloat16)\Z", "a type of elements such as float32")
]
Size = Annotated[int, Meta(ge=0, le=LARGEST_ELEMENTS)]
#: NumPy has no arrays of a higher rank.
Shape = Annotated[tuple[Size, ...], Meta(max_length=64)]


@dataclass(frozen=True)
class TensorForm:
    """An input or output."""

    name: str
    dtype: DType
    shape: Shape


@dataclass(frozen=True)
class FileForm:
    """One file of the artifact."""

    name: FileName
    bytes: Bytes
    sha256: Sha256


@dataclass(frozen=True)
class FrozenForm:
    """An input that the build froze: nested lists of numbers, or one."""

    dtype: DType
    value: Any


@dataclass(frozen=True)
class ModelForm:
    """The model that it was built from."""

    file: str
    sha256: Sha256
    frozen: dict[str, FrozenForm] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolchainForm:
    """What linked it."""

    name: Line
    version: Line


@dataclass(frozen=True)
class PassForm:
    """The outcome of a graph pass."""

    what: str
    applied: Count
    total: Count


@dataclass(frozen=True)
class KernelForm:
    """A kernel."""

    ops: tuple[str, ...]
    calls: Count
    kind: str
    workload: str
    mac_share: Finite
    origin: str = ""


@dataclass(frozen=True)
class Int8Form:
    """The share of the work in int8."""

    int8: Bytes = 0
    share: Finite = 0.0


@dataclass(frozen=True)
class StripsForm:
    """What runs strip by strip."""

    told: Line = ""


@dataclass(frozen=True)
class WeightsForm:
    """How the weights lie in the library."""

    half_layers: Count = 0
    layers: Count = 0
    bytes: Bytes = 0
    model_bytes: Bytes = 0


@dataclass(frozen=True)
class FusionForm:
    """What the graph passes did."""

    passes: tuple[PassForm, ...]
    kernels: tuple[KernelForm, ...]
    int8: Int8Form = Int8Form()
    strips: StripsForm = StripsForm()
    weights: WeightsForm = WeightsForm()


@dataclass(frozen=True)
class MemoryForm:
    """Planned memory."""

    arena: Bytes
    naive: Bytes


@dataclass(frozen=True)
class OptionsForm:
    """What the build was told."""

    shape: tuple[str, ...]
    value: tuple[str, ...]
    precision: Precision = Precision.FP32
    strips: bool = False
    weights: Weights = Weights.FP32
    prefer: Prefer = Prefer.SPEED


@dataclass(frozen=True)
class ManifestForm:
    """A manifest."""

    name: FileName
    model: ModelForm
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    target: Target
    toolchain: ToolchainForm
    packages: dict[Line, Line]
    files: tuple[FileForm, ...]
    fusion: FusionForm
    memory: MemoryForm
    options: OptionsForm
