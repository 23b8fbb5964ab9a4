"""Start-up time and memory of CTranslate2 in a new process.

Reads sentences, one a line. Prints the times, of the system's monotonic clock in seconds, at which the model was loaded
and the first sentence was translated, then the resident bytes after it and their maximum while all sentences are
translated in batches.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.calls import Search
from bench.measure.servers import peak_memory, resident_bytes
from bench.peers.ct2_direct import Ct2Translator, Layout


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a CTranslate2 model")
    parser.add_argument("tokenizer", type=Path, help="its SentencePiece model")
    parser.add_argument("--compute-type", default="int8", help="CTranslate2's compute type (default: int8)")
    parser.add_argument("--beam-size", type=int, default=4, help="default: 4")
    parser.add_argument("--max-length", type=int, default=99, help="target tokens at most (default: 99)")
    parser.add_argument("--length-penalty", type=float, default=0.6, help="default: 0.6")
    parser.add_argument("--batch-size", type=int, default=32, help="sentences in a batch (default: 32)")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    search = Search(args.beam_size, args.max_length, args.length_penalty)
    sentences = sys.stdin.read().splitlines()
    translator = Ct2Translator(args.model, args.tokenizer, args.compute_type, Layout(1, 0))
    ready = time.monotonic()
    translator.translate(sentences[:1], search)
    first = time.monotonic()
    at_rest = resident_bytes(os.getpid())
    with peak_memory(os.getpid()) as peak:
        translator.in_flight(sentences, search, args.batch_size)
    print(ready, first, at_rest, peak[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
