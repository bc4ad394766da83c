#!/usr/bin/env python3
"""Fuzz the board's readers (.npy, bundle.conf, SHA256SUMS) with libFuzzer, AddressSanitizer and UBSan.

Needs clang with its runtime (Debian 12: clang libclang-rt-14-dev). Prints how many inputs were tried, for
docs/security.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tvmbuild.codegen.native_programs import compiler_options, program_folders, sources
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.target.target import load_target

TOP = Path(__file__).resolve().parent.parent
#: An input of each target to start from; its sources are in native/programs.json.
_TARGETS = {
    "npy": (
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }            \n12345678"
    ),
    "bundle": (
        b"tvmbuild-bundle 1\nname n\narch aarch64\nglibc 2.31\ntvm-ffi 0.1.14\nlibrary n-a\ncpu cortex-a76\n"
        b"feature dotprod\noutput golden/output_0.npy 0.0001\n" + b"a" * 64 + b"  golden/x\n"
    ),
}


def fuzz(name: str, clang: str, runs: int, folder: Path) -> int:
    """Build and run one target; returns the number of inputs tried."""
    corpus, program = folder / "corpus", folder / f"fuzz_{name}"
    corpus.mkdir()
    (corpus / "seed").write_bytes(_TARGETS[name])
    include = runtime_libraries(load_target("host")).include
    options = [*compiler_options("c++"), f"-isystem{include}", "-g", "-O1"]
    options += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    own = f"fuzz/fuzz_{name}.cc"
    parts = sources(program_folders(own), with_main=False)
    subprocess.run([clang, *options, "-o", str(program), str(TOP / "tests" / own), *map(str, parts)], check=True)
    limits = ["-max_len=16384", f"-runs={runs}", "-print_final_stats=1", f"-artifact_prefix={TOP}/build/"]
    done = subprocess.run([str(program), *limits, str(corpus)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr[-4000:], file=sys.stderr)
        raise SystemExit(f"{name}: a fault was found; its input is in build/")
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return int(found[1]) if found else 0


def main() -> int:
    """Fuzz every target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000_000, help="inputs for each reader")
    arguments = parser.parse_args()
    clang = next(filter(None, map(shutil.which, ("clang++", "clang++-14", "clang++-18"))), None)
    if clang is None:
        print("clang is missing: sudo apt-get install clang libclang-rt-14-dev", file=sys.stderr)
        return 1
    for name in _TARGETS:
        with tempfile.TemporaryDirectory(prefix="tvmbuild-fuzz-") as folder:
            print(f"{name}: {fuzz(name, clang, arguments.runs, Path(folder))} inputs, no fault", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
