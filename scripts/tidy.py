#!/usr/bin/env python3
"""Run clang-tidy over the C and C++ sources, those that have changed since they last passed.

A source's digest covers every header, so that a change of one tries all again. All of them take a minute on two cores.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tvmbuild.codegen.native_programs import compiler_options
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.target.target import load_target

TOP = Path(__file__).resolve().parent.parent
NATIVE = TOP / "tvmbuild" / "native"
PROGRAM = Path(sys.executable).with_name("clang-tidy")
#: Digests of sources that passed.
PASSED = TOP / "build" / "tidy.json"
#: What CMake and tvmbuild define by the machine, where a source cannot be read without it.
DEFINED = ('-DTVMBUILD_RUNTIME_VERSION="0"', "-DQEMU_PLUGIN_API=3")


def command(source: Path) -> list[str]:
    """Return the command that checks one source."""
    include = runtime_libraries(load_target("host")).include
    options = compiler_options("c" if source.suffix == ".c" else "c++")
    return [
        str(PROGRAM),
        "--quiet",
        "--warnings-as-errors=*",
        str(source),
        "--",
        *options,
        f"-isystem{include}",
        *DEFINED,
    ]


def digest(source: Path, shared: bytes) -> str:
    """Return what stands for a source and all that decides what clang-tidy says of it."""
    return hashlib.sha256(shared + source.read_bytes()).hexdigest()


def main() -> int:
    """Check what has not passed as it is now; print what is wrong."""
    if not PROGRAM.is_file():
        print(f"skip: {PROGRAM} is not installed (make setup)")
        return 0
    version = subprocess.run([str(PROGRAM), "--version"], capture_output=True, check=True).stdout
    parts = [TOP / ".clang-tidy", NATIVE / "programs.json", Path(__file__), *sorted(NATIVE.rglob("*.h"))]
    shared = b"\0".join([version, *(path.read_bytes() for path in parts)])
    known: dict[str, str] = json.loads(PASSED.read_text()) if PASSED.is_file() else {}
    sources = {path: digest(path, shared) for path in sorted([*NATIVE.rglob("*.cc"), *NATIVE.rglob("*.c")])}
    changed = [path for path, found in sources.items() if known.get(str(path.relative_to(TOP))) != found]
    failed = False
    with ThreadPoolExecutor(2) as threads:
        ran = threads.map(
            lambda path: subprocess.run(command(path), capture_output=True, text=True, check=False), changed
        )
        for path, done in zip(changed, ran, strict=True):
            if done.returncode:
                failed = True
                print(done.stdout + done.stderr)
            else:
                known[str(path.relative_to(TOP))] = sources[path]
    PASSED.parent.mkdir(exist_ok=True)
    PASSED.write_text(json.dumps(known, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
