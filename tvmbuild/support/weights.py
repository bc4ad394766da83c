"""Weights: in what form they lie in a library, and what a build prefers. What is computed in is ``precision.py``'s."""

from __future__ import annotations

import enum


class Weights(str, enum.Enum):
    """How constant weights of float32 layers are stored, by its name in options and manifests; as a text it is that.

    Attributes:
        halves: whether layers may have their weights as float16, widened to float32 in the kernel.
        tolerance: largest difference from ONNX Runtime allowed by default where a layer has, relative to the largest
            reference value of the output; 0.0 where none may.
    """

    halves: bool
    tolerance: float

    def __new__(cls, name: str, halves: bool = False, tolerance: float = 0.0) -> Weights:
        """Make a member of its row."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.halves, member.tolerance = halves, tolerance
        return member

    FP32 = ("fp32",)
    #: Wherever the bound of the rounding holds.
    FP16 = ("fp16", True, 5e-3)
    #: Where it is predicted to save time as well.
    AUTO = ("auto", True, 5e-3)

    def __str__(self) -> str:
        """Return the name, as format() does; Python's releases differ in what they would."""
        return str(self.value)


class Prefer(str, enum.Enum):
    """What a build prefers where it cannot have both."""

    SPEED = "speed"
    #: No algorithm whose weights take more than the model's, and float16 weights where another form is not asked for.
    SIZE = "size"

    def __str__(self) -> str:
        """Return the name, as format() does."""
        return str(self.value)
