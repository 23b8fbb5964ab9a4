"""The most memory that a server may take, as docs/operations.md states it."""

from __future__ import annotations

from pathlib import Path

from dragoman_service.server.intake import IntakeSettings
from dragoman_service.server.settings import ServerSettings
from support.server_process import ServerProcess

KIB_PER_CALL = 122
PENDING_CALLS = 4_000
"""Calls that gRPC holds at most before the server has looked at them."""
KIB_PER_CONNECTION = 20
SPARE_MIB = 60
"""Caches, arenas and the allocator's own."""


def allowed_mib(
    server: ServerProcess, intake: IntakeSettings | None = None, settings: ServerSettings | None = None
) -> float:
    """The bound in MiB, from the memory of a server that has not been called yet, and its settings."""
    intake, settings = intake or IntakeSettings(), settings or ServerSettings()
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    idle = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    calls = (KIB_PER_CALL * (intake.max_calls + PENDING_CALLS) + KIB_PER_CONNECTION * settings.max_connections) / 1024
    return idle + SPARE_MIB + calls + 2 * intake.message_memory_mib + intake.call_memory_mib
