"""Measure what connections and calls cost a server that has nothing to do with them yet.

python tests/load/costs.py deploy/models/en-de/1
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.http2 import END_HEADERS, HEADERS, HELLO, call_headers, connection, frame
from support.attackers import TRANSLATE
from support.server_process import ServerProcess, server_process

CONNECTIONS, CALLING, CALLS = 1_000, 50, 100
"""Connections, those of them that have calls, and the calls of each."""
SETTLE_SECONDS = 8.0


def resident_kib(server: ServerProcess) -> int:
    """Resident memory of the server."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model bundle")
    model = parser.parse_args().model
    with ExitStack() as stack:
        options = ("--max-calls", str(2 * CALLING * CALLS), "--max-connections", str(2 * CONNECTIONS))
        server = stack.enter_context(server_process([model], *options))
        idle = resident_kib(server)
        opened = [stack.enter_context(connection(server.address)) for _ in range(CONNECTIONS)]
        for each in opened:
            each.sendall(HELLO)
        time.sleep(SETTLE_SECONDS)
        connected = resident_kib(server)
        block = call_headers(TRANSLATE)
        for each in opened[:CALLING]:
            each.sendall(b"".join(frame(HEADERS, END_HEADERS, 2 * number + 1, block) for number in range(CALLS)))
        time.sleep(SETTLE_SECONDS)
        print(f"idle: {idle / 1024:.0f} MiB")
        print(f"{CONNECTIONS} connections: {(connected - idle) / CONNECTIONS:.0f} KiB each")
        print(f"{CALLING * CALLS} calls: {(resident_kib(server) - connected) / CALLING / CALLS:.0f} KiB each")


if __name__ == "__main__":
    main()
