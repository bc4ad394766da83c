"""llvm-mc and llvm-mca: finding them, disassembling instructions and pricing blocks of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from tvmbuild.support.border import Border, NotNegative, Positive
from tvmbuild.support.errors import ToolchainError

#: Names a folder with an LLVM installation (its bin/ or the folder above), before PATH is searched.
PREFIX_VARIABLE = "TVMBUILD_LLVM"
#: Newest first: the figures of this project were made with the first of them.
_VERSIONS = (22, 23, 21, 20, 19)
_OLDEST = 19
_INSTALL = (
    "Install llvm-22 (Debian 12 and 13: apt-get install llvm-22; Ubuntu: the packages of https://apt.llvm.org), "
    f"or name an installation of LLVM {_OLDEST} or newer in {PREFIX_VARIABLE}."
)
#: Every extension that a board's code or its C library may use.
_EXTENSIONS = "+v8.4a,+fullfp16,+dotprod,+i8mm,+bf16,+crc,+lse,+sve2"
_TRIPLE = "aarch64"
_REGIONS_PER_RUN = 200
_SECONDS = 300


@dataclass(frozen=True)
class LlvmTools:
    """The two programs of one LLVM installation.

    Attributes:
        mc: path of llvm-mc.
        mca: path of llvm-mca.
        version: LLVM's version ("22.1.8"); predicted figures depend on it.
    """

    mc: Path
    mca: Path
    version: str


@dataclass(frozen=True)
class BlockCost:
    """What llvm-mca says of one block that is executed over and over.

    Attributes:
        cycles: simulated cycles an execution.
        throughput: the least cycles that its pipes need (mca's block reciprocal throughput).
        micro_ops: micro-operations.
        width: micro-operations that the core dispatches a cycle.
    """

    cycles: float
    throughput: float
    micro_ops: float
    width: float

    @property
    def floor(self) -> float:
        """The least cycles an execution can take, with every latency hidden."""
        return max(self.throughput, self.micro_ops / self.width)


def find_llvm() -> LlvmTools:
    """Find llvm-mc and llvm-mca of the best version.

    Raises:
        ToolchainError: there is none of LLVM 19 or newer.
    """
    found = []
    for mc, mca in _candidates():
        version = _version(mca)
        if version is not None and mc.is_file():
            if int(version.split(".")[0]) >= _OLDEST:
                return LlvmTools(mc, mca, version)
            found.append(version)
    seen = f"; LLVM {', '.join(found)} is too old" if found else ""
    raise ToolchainError(
        f"llvm-mca of LLVM {_OLDEST} or newer, which prices instructions, was not found{seen}.", _INSTALL
    )


def _candidates() -> Iterable[tuple[Path, Path]]:
    prefix = os.environ.get(PREFIX_VARIABLE)
    if prefix:
        for folder in (Path(prefix), Path(prefix) / "bin"):
            yield folder / "llvm-mc", folder / "llvm-mca"
        return
    for suffix in (*(f"-{version}" for version in _VERSIONS), ""):
        mca = shutil.which(f"llvm-mca{suffix}")
        if mca is not None:
            yield Path(mca).with_name(f"llvm-mc{suffix}"), Path(mca)


def _version(mca: Path) -> str | None:
    try:
        text = subprocess.run([mca, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"LLVM version (\d+(?:\.\d+)*)", text)
    return match.group(1) if match else None


def disassemble(tools: LlvmTools, words: Iterable[str]) -> dict[str, str]:
    """Return the assembly text of each instruction that LLVM knows, with single spaces ("fmla v0.4s, v1.4s, v2.s[0]").

    Args:
        tools: of ``find_llvm``.
        words: instructions as 8 hexadecimal digits, most significant first.

    Raises:
        ToolchainError: llvm-mc could not be run.
    """
    by_encoding = {_encoding(word): word for word in words}
    command = [str(tools.mc), f"--triple={_TRIPLE}", "--disassemble", f"--mattr={_EXTENSIONS}", "--show-encoding"]
    output = _run(command, "\n".join(sorted(by_encoding)) + "\n").stdout
    # Unknown encodings are left out of the output, so each line is matched by the encoding that it shows.
    texts: dict[str, str] = {}
    for match in re.finditer(r"^\s+(\S.*?)\s+// encoding: \[(.*?)\]", output, re.MULTILINE):
        word = by_encoding.get(match.group(2).replace(",", " "))
        if word is not None:
            texts[word] = " ".join(match.group(1).split())
    return texts


def _encoding(word: str) -> str:
    return " ".join(f"0x{byte:02x}" for byte in reversed(bytes.fromhex(word)))


def price(tools: LlvmTools, cpu: str, bodies: Sequence[Sequence[str]]) -> list[BlockCost | None]:
    """Return the cost of each block of assembly text on a core; None for one that llvm-mca cannot price.

    Raises:
        ToolchainError: llvm-mca could not be run.
    """
    costs: list[BlockCost | None] = [None] * len(bodies)
    by_iterations: dict[int, list[int]] = {}
    for index, body in enumerate(bodies):
        if body:
            by_iterations.setdefault(_iterations(len(body)), []).append(index)
    for iterations, indices in by_iterations.items():
        for at in range(0, len(indices), _REGIONS_PER_RUN):
            part = indices[at : at + _REGIONS_PER_RUN]
            for index, cost in _price_part(tools, cpu, {index: bodies[index] for index in part}, iterations).items():
                costs[index] = cost
    return costs


def _iterations(length: int) -> int:
    """Return enough repetitions to reach the steady state, fewer for longer blocks, which take longer to simulate."""
    return 100 if length < 60 else 30 if length < 300 else 12


def _price_part(
    tools: LlvmTools, cpu: str, bodies: dict[int, Sequence[str]], iterations: int
) -> dict[int, BlockCost]:  # fmt: skip
    lines: list[str] = []
    for index, body in bodies.items():
        lines += [f"// LLVM-MCA-BEGIN r{index}", *body, f"// LLVM-MCA-END r{index}"]
    command = [str(tools.mca), f"--mtriple={_TRIPLE}", f"--mcpu={cpu}", "--json", f"--iterations={iterations}"]
    result = _run([*command, "--skip-unsupported-instructions=any"], "\n".join(lines) + "\n")
    if result.returncode != 0 or not result.stdout.strip():
        return _price_halves(tools, cpu, bodies, iterations)
    return parse_costs(result.stdout)


def _price_halves(
    tools: LlvmTools, cpu: str, bodies: dict[int, Sequence[str]], iterations: int
) -> dict[int, BlockCost]:  # fmt: skip
    """Price all but the block that llvm-mca refuses, since one fails the whole run."""
    if len(bodies) == 1:
        return {}
    items = list(bodies.items())
    middle = len(items) // 2
    first = _price_part(tools, cpu, dict(items[:middle]), iterations)
    return first | _price_part(tools, cpu, dict(items[middle:]), iterations)


# The names are llvm-mca's.
@dataclass(frozen=True)
class _Summary:
    """llvm-mca's figures of a block."""

    Iterations: Positive
    TotalCycles: NotNegative
    BlockRThroughput: NotNegative
    TotaluOps: NotNegative
    DispatchWidth: Positive


@dataclass(frozen=True)
class _Region:
    """A block."""

    Name: Annotated[str, Meta(pattern=r"^r[0-9]{1,9}\Z")]
    SummaryView: _Summary


@dataclass(frozen=True)
class _CostReport:
    """llvm-mca's report."""

    CodeRegions: tuple[_Region, ...]


_BORDER = Border("The report of", ToolchainError, _INSTALL)


def parse_costs(text: str) -> dict[int, BlockCost]:
    """Read llvm-mca's JSON; the keys are the numbers in the regions' names ("r7").

    Raises:
        ToolchainError: it lacks figures.
    """
    costs: dict[int, BlockCost] = {}
    report = _BORDER.checked(_BORDER.parse_json(text, "llvm-mca"), _CostReport, "llvm-mca", closed=False)
    for region in report.CodeRegions:
        view = region.SummaryView
        costs[int(region.Name[1:])] = BlockCost(
            cycles=view.TotalCycles / view.Iterations,
            throughput=view.BlockRThroughput,
            micro_ops=view.TotaluOps / view.Iterations,
            width=view.DispatchWidth,
        )
    return costs


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"{command[0]} could not be run: {error}.", _INSTALL) from error
