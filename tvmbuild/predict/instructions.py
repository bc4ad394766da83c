"""What the prediction needs to know of AArch64 instructions, read from LLVM's assembly text.

Source: Arm Architecture Reference Manual for A-profile (DDI 0487), the A64 base and SIMD instructions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tvmbuild.target.cores import Core

_BRANCHES = frozenset({"b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz", "svc"})
#: Branches after which the next block of the same activation is not the one that follows in memory.
_LEAVING = frozenset({"bl", "br", "blr", "ret", "svc"})
_DISPLACEMENT = re.compile(r"#(-?\d+)$")
_STACK_SLOT = re.compile(r"\[(?:sp|x29)[^\]]*\]")
_ARRANGEMENT = re.compile(r"^\S+ v\d+\.(\d+)([bhsd])\b")
_SCALAR = re.compile(r"^\S+ ([hsd])\d+\b")

_FLOAT_MULTIPLY_ADD = frozenset({"fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub"})
_WIDENING_MULTIPLY = frozenset({"smull", "smull2", "smlal", "smlal2", "umull", "umull2", "umlal", "umlal2"})
_DOT_PRODUCT = frozenset({"sdot", "udot", "usdot"})
#: Of int16 or int8 lanes, added in pairs to lanes twice as wide.
_PAIRWISE_ADD = frozenset({"sadalp", "uadalp"})
_VECTOR_DIVIDE = re.compile(r"^fdiv v\d+\.4s\b")
#: int8 products that one 32-bit lane of a dot product adds up.
_DOT_LENGTH = 4


def mnemonic(text: str) -> str:
    """Return the instruction's name ("fmla", "b.ne")."""
    return text.partition(" ")[0]


def is_branch(text: str) -> bool:
    """Whether the instruction may go elsewhere than to the next one."""
    name = mnemonic(text)
    return name in _BRANCHES or name.startswith("b.")


def is_jump(text: str) -> bool:
    """Whether it is the unconditional branch to a fixed place."""
    return mnemonic(text) == "b"


def leaves(text: str) -> bool:
    """Whether it is a call, a return, an indirect branch or a system call."""
    return mnemonic(text) in _LEAVING


def branch_displacement(text: str) -> int | None:
    """Return where a direct branch inside a function goes, in bytes from itself; None for all other instructions."""
    if not is_branch(text) or leaves(text):
        return None
    match = _DISPLACEMENT.search(text)
    return int(match.group(1)) if match else None


def spilled_accumulators(body: list[str]) -> int:
    """Count the stack slots of a loop's body that are reloaded and stored again later: accumulators kept in memory."""
    loaded: set[str] = set()
    spilled: set[str] = set()
    for text in body:
        match = _STACK_SLOT.search(text)
        if match is None:
            continue
        slot = match.group(0)
        if not text.startswith("st"):
            loaded.add(slot)
        elif slot in loaded:
            spilled.add(slot)
    return len(spilled)


def multiply_adds(text: str) -> tuple[int, str] | None:
    """Return how many multiply-adds an instruction does and of which type ("float32", "float16", "int8"), or None.

    Only what a kernel's inner loop is made of counts: vector and scalar floating-point multiply-adds, widening int8
    multiplies and dot products. A double precision multiply-add counts as two of single precision.
    """
    name = mnemonic(text)
    arrangement = _ARRANGEMENT.match(text)
    if name in _FLOAT_MULTIPLY_ADD:
        scalar = _SCALAR.match(text)
        if arrangement is None and scalar is None:
            return None
        lanes = int(arrangement.group(1)) if arrangement else 1
        width = arrangement.group(2) if arrangement else scalar.group(1) if scalar else "s"
        return {"h": (lanes, "float16"), "s": (lanes, "float32"), "d": (2 * lanes, "float32")}.get(width)
    if arrangement is None:
        return None
    lanes, width = int(arrangement.group(1)), arrangement.group(2)
    if name in _DOT_PRODUCT and width == "s":
        return lanes * _DOT_LENGTH, "int8"
    if name in _WIDENING_MULTIPLY and width == "h":
        return lanes, "int8"
    return None


def multiply_add_bound(body: list[str], core: Core) -> tuple[int, float]:
    """Return the multiply-add instructions of a loop's body and the cycles that they need at the core's best rate."""
    rates = {"float32": core.float32_macs, "float16": core.float16_macs, "int8": core.int8_macs}
    count, cycles = 0, 0.0
    for text in body:
        work = multiply_adds(text)
        if work is not None and rates[work[1]] > 0:
            count += 1
            cycles += work[0] / rates[work[1]]
    return count, cycles


def pairwise_adds(body: Iterable[str]) -> int:
    """Count the instructions that add pairs of lanes to an accumulator, as int8 kernels without dot products do."""
    return sum(mnemonic(text) in _PAIRWISE_ADD for text in body)


def vector_divisions(body: Iterable[str]) -> int:
    """Count the divisions of four fp32 lanes."""
    return sum(_VECTOR_DIVIDE.match(text) is not None for text in body)
