"""`python -m dragoman_service.cli` is the command `dragoman`."""

import sys

from dragoman_service.cli.main import main

sys.exit(main())
