"""Run TVM's own tracker or RPC server in the foreground, in one process.

``python -m tvm.exec.rpc_tracker`` does so in a child that outlives a killed parent, and needs packages (cloudpickle,
psutil) to start and to end that child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: Where TVM's server looks for a free port when it is given none.
_FIRST_PORT, _LAST_PORT = 9091, 9199
_PR_SET_PDEATHSIG = 1


def run_server(host: str, port: int, tracker: tuple[str, int], key: str) -> None:
    """Run TVM's RPC server until the process ends, again and again.

    Raises:
        OSError, ValueError: it cannot listen there.
    """
    # A board has no use for the compiler.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    from tvm.rpc import server

    first, last = (port, port + 1) if port else (_FIRST_PORT, _LAST_PORT + 1)
    while True:
        state = server.PopenRPCServerState(host, first, last, False, tracker, key)
        # A client whose process crashes takes the accepting thread along, and leaves us in its removed folder.
        state.thread.join()
        state.sock.close()
        os.chdir("/")


def main(arguments: list[str]) -> None:
    """Run what the command line names: ``tracker HOST PORT`` or ``server HOST PORT TRACKER PORT KEY``."""
    # Whoever started this may be killed: this process ends with it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    kind, host, port, *rest = arguments
    if kind == "tracker":
        from tvmbuild.device.fleet.tracker_server import run_tracker

        run_tracker(host, int(port))
    else:
        run_server(host, int(port), (rest[0], int(rest[1])), rest[2])


if __name__ == "__main__":
    main(sys.argv[1:])
