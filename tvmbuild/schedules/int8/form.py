"""The multiply instructions of a core that int8 kernels are shaped for."""

from __future__ import annotations

from dataclasses import dataclass

from tvmbuild.target.cores import DOT_PRODUCT
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Int8Form:
    """How products are summed to int32 lanes.

    Attributes:
        name: what ``int8_multiply`` turns the innermost loops into: "smull" (widening multiplies of ARMv8.0, two
            products of which fit int16), "smull_single" (the same for weights that may be -128, whose products are
            widened one by one), "sdot" (dot products of four), "madd" (pairs of int16, x86).
        group: neighbouring reduction indices that one lane sums in one instruction.
        partial: int32 lanes that hold the sum of one output; they are added up when the reduction is over.
        lanes: outputs (1 where ``partial`` exceeds it) in a vector register.
        registers: vector registers.
        element: type in which inputs and weights are stored.
    """

    name: str
    group: int
    partial: int
    lanes: int
    registers: int
    element: str

    @property
    def safe(self) -> Int8Form:
        """The form for weights that hold -128."""
        if self.name != "smull":
            return self
        return Int8Form("smull_single", self.group, self.partial, self.lanes, self.registers, self.element)


def int8_form(target: Target) -> Int8Form:
    """Return the form for a board's core."""
    if target.arch == "x86_64":
        return Int8Form("madd", 2, 1, target.vector_bits // 32, target.vector_registers, "int16")
    if target.has(DOT_PRODUCT):
        return Int8Form("sdot", 4, 1, 4, 32, "int8")
    return Int8Form("smull", 4, 4, 1, 32, "int8")
