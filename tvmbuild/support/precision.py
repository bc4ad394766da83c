"""Precision: what a build computes in. One row each; whatever depends on the precision of a build reads its row.

Another one (bfloat16 storage, int4 weights) is a row here and its kernels. It stands on the ground because options hold
it. What the values of a model round to by themselves is another matter: ``onnx_model/rounding.py``.
"""

from __future__ import annotations

import enum


class Precision(str, enum.Enum):
    """A precision by its name in options, manifests, releases and benchmarks; as a text it is that name.

    Attributes:
        floats: NumPy's name of the type that real numbers are computed in where that is safe. A model's inputs and
            outputs keep their types.
        codes: NumPy's name of the integers that the build quantizes a float model to; "" where it does not.
        extension: LLVM's name of the instruction set extension that a core must have; "" for none.
        tolerance: largest difference from ONNX Runtime allowed by default, relative to the largest reference value of
            the output; 0.0 where the output's type alone decides.
    """

    floats: str
    codes: str
    extension: str
    tolerance: float

    def __new__(
        cls, name: str, floats: str = "float32", codes: str = "", extension: str = "", tolerance: float = 0.0
    ) -> Precision:
        """Make a member of its row."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.floats, member.codes, member.extension, member.tolerance = floats, codes, extension, tolerance
        return member

    # A value rounded to float16 is off by up to 2**-11 (5e-4) and a layer by some 1e-3 of its largest value. SqueezeNet
    # and ResNet-50 (random weights) measure 1e-3 and 2e-3, two trained classifiers of the MobileNet kind up to 7e-3 and
    # 8e-3 on random inputs; a wrong kernel is off by 1e-1 or more.
    FP32 = ("fp32", "float32", "", "", 0.0)
    FP16 = ("fp16", "float16", "", "fullfp16", 1e-2)
    INT8 = ("int8", "float32", "int8", "", 0.0)
    #: The layers that stay in float are in half precision.
    INT8_FP16 = ("int8-fp16", "float16", "int8", "fullfp16", 1e-2)

    def __str__(self) -> str:
        """Return the name, as format() does; Python's releases differ in what they would."""
        return str(self.value)

    @property
    def quantizes(self) -> bool:
        """Whether the build quantizes a float model first."""
        return bool(self.codes)

    @property
    def ending(self) -> str:
        """End of the name of an artifact of a release: "", "-fp16", "-int8"."""
        return "" if self is Precision.FP32 else f"-{self.value}"

    @property
    def model_ending(self) -> str:
        """End of the stem of the model that is compiled: ".int8" where the build quantizes it, or ""."""
        return f".{self.codes}" if self.codes else ""

    @property
    def unquantized(self) -> Precision:
        """The same floats without codes: what the quantized model itself is built in."""
        return self.with_codes("")

    def with_floats(self, floats: str) -> Precision:
        """Return the precision with the same codes and these floats."""
        return _row(floats, self.codes)

    def with_codes(self, codes: str) -> Precision:
        """Return the precision with the same floats and these codes."""
        return _row(self.floats, codes)


def _row(floats: str, codes: str) -> Precision:
    return next(each for each in Precision if (each.floats, each.codes) == (floats, codes))
