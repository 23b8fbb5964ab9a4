"""The processes of a server that has several."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from support.server_process import ServerProcess


def processes(server: ServerProcess) -> dict[str, int]:
    """The processes of a server by name: `engine`, `front 1` and `front 2`."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    # The engine process has the longest list of libraries: the one that has a model mapped has its weights.
    maps: dict[int, int] = {}
    for pid in children:
        with suppress(OSError):  # one that has just been killed
            maps[pid] = -len(Path(f"/proc/{pid}/maps").read_text())
    by_memory = sorted(maps, key=lambda pid: maps[pid])
    return {"engine": by_memory[0], **{f"front {n}": pid for n, pid in enumerate(sorted(by_memory[1:]), start=1)}}
