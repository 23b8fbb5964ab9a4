"""`python -m dragoman_service.cli` is the command `dragoman`."""

from __future__ import annotations

import sys

from dragoman_service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
