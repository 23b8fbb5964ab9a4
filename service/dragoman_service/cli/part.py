"""Starts a process of a server that has several: the supervisor's, not for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dragoman_service.cli.serve import set_up_logging
from dragoman_service.server.fronts.child import main as run


def main(argv: Sequence[str]) -> int:
    """Run a process. `argv` has two descriptors: see `child.main`."""
    control, dial = map(int, argv)
    return run(control, dial, set_up_logging)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
