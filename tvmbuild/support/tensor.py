"""What an input or output of a model looks like."""

from __future__ import annotations

from dataclasses import dataclass

#: Elements of the largest tensor that is accepted: TVM's kernels index with int32.
LARGEST_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor with a fixed shape.

    Attributes:
        name: the original ONNX name.
        dtype: NumPy's name of the element type ("float32").
        shape: sizes; empty for a scalar.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return "x: float32[1, 3, 224, 224]"."""
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"
