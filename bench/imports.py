"""Time and memory of `dragoman import`, for checkpoints with the layout of NLLB-200 and random weights.

    python bench/imports.py --shape nllb --precision int8

The import is a process of its own. Peak memory is its largest resident set, pages of mapped files included, as the
system counts it. `--options` are further options of `dragoman import`; the import itself says how long its parts take.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import print_header, print_table
from bench.peers.random_nllb import SHAPES, write_folder


def imported(checkpoint: Path, bundle: Path, options: Sequence[str]) -> tuple[float, int]:
    """Import in a process of its own. Returns its seconds and the bytes of its largest resident set.

    Raises:
        subprocess.CalledProcessError: the import failed.
    """
    command = [sys.executable, "-m", "dragoman_service.cli", "import", str(checkpoint), "--output", str(bundle)]
    started = time.monotonic()
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.monotonic() - started, usage.ru_maxrss * 1024


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="quarter", help="default: quarter")
    parser.add_argument("--precision", default="int8", help="default: int8")
    parser.add_argument("--folder", type=Path, help="where checkpoint and bundle are kept (default: nowhere)")
    parser.add_argument("--options", default="", metavar="'OPTION ...'", help="further options of `dragoman import`")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        checkpoint, bundle = folder / f"nllb-{args.shape}", folder / args.shape / args.precision
        if not checkpoint.exists():
            write_folder(checkpoint, SHAPES[args.shape])
        size = sum(file.stat().st_size for file in checkpoint.iterdir())
        options = ["--precision", args.precision, "--force", *shlex.split(args.options)]
        print_header("Import", {"shape": args.shape, "options": shlex.join(options)})
        seconds, peak = imported(checkpoint, bundle, options)
        made = sum(file.stat().st_size for file in bundle.iterdir())
        columns = ["shape", "precision", "checkpoint MB", "peak memory MB", "peak over checkpoint", "bundle MB", "s"]
        row = [args.shape, args.precision, size / 1e6, peak / 1e6, peak / size, made / 1e6, seconds]
        print_table(columns, [row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
