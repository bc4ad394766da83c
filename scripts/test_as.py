#!/usr/bin/env python3
"""Run tests as another x86 CPU: ``scripts/test_as.py avx2 tests/unit/test_reference.py``.

Python, ONNX Runtime, LLVM's choice of the host's instructions and tvmbuild's runner all run on QEMU's model of that CPU
(``qemu-x86_64``, of Debian's qemu-user). QEMU has no AVX-512, so AVX-512 without VNNI cannot be shown this way.
"""

from __future__ import annotations

import os
import sys

#: QEMU's CPU for each set of instructions, without what its translator warns that it lacks.
CPUS = {
    "sse": "Nehalem",
    "avx2": "Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-rtm,-invpcid",
}


def main() -> None:
    """Become pytest under the emulator."""
    if len(sys.argv) < 2 or sys.argv[1] not in CPUS:
        sys.exit(f"usage: scripts/test_as.py {{{','.join(CPUS)}}} [pytest's arguments]")
    emulator = ["qemu-x86_64", "-cpu", CPUS[sys.argv[1]]]
    command = [*emulator, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[2:]]
    try:
        os.execvpe(command[0], command, {**os.environ, "TVMBUILD_TEST_EMULATOR": " ".join(emulator)})
    except FileNotFoundError:
        sys.exit("qemu-x86_64 is missing: sudo apt-get install -y qemu-user")


if __name__ == "__main__":
    main()
