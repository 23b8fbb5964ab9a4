"""Detection of languages: how many texts, and beginnings of a few words, are recognised; its time and its memory.

    python bench/detection.py de=news.de en=news.en fr=news.fr

Each file has a text a line. The languages that are given are those among which texts are told apart.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import print_header, print_table
from dragoman_service.text.detection import SAMPLE_CHARACTERS, Detector, load_detector


def memory_mib(name: str = "VmRSS") -> float:
    """Memory of this process, of the kind that /proc/self/status calls `name`."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def recognised(detector: Detector, texts: Sequence[str], language: str, languages: Sequence[str]) -> float:
    """The share of texts whose likeliest language is the right one."""
    found = [detector.detect(text, languages) for text in texts]
    return sum(bool(it) and it[0].language == language for it in found) / len(texts)


def beginnings(lines: Sequence[str], words: int) -> list[str]:
    """The first words of each line that has so many; whole lines for 0."""
    split = [line.split() for line in lines]
    return [" ".join(line[:words] if words else line) for line in split if len(line) >= max(1, words)]


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="LANGUAGE=FILE")
    parser.add_argument("--words", type=int, nargs="+", default=[0, 3, 2, 1], metavar="N", help="0: whole lines")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="lines of each file (default: 1000)")
    return parser


def main() -> int:
    args = argument_parser().parse_args()
    files = dict(item.split("=", 1) for item in args.files)
    lines = {tag: Path(path).read_text(encoding="utf-8").splitlines()[: args.most] for tag, path in files.items()}
    print_header("Detection of languages", {"languages": " ".join(files), "lines of each": args.most})
    before, started = memory_mib(), time.process_time()
    detector = load_detector()
    seconds = time.process_time() - started
    print(f"- the model: {seconds:.1f} s of processor time to load, {memory_mib() - before:.0f} MiB, ", end="")
    print(f"{memory_mib('VmHWM') - before:.0f} MiB while it is loaded")
    longest = [" ".join(lines[tag])[:SAMPLE_CHARACTERS] for tag in files]
    started = time.process_time()
    for _ in range(50):
        for text in longest:
            detector.detect(text, tuple(files))
    milliseconds = 1e3 * (time.process_time() - started) / (50 * len(longest))
    print(f"- a text of {SAMPLE_CHARACTERS} characters or more: {milliseconds:.2f} ms\n")
    rows = []
    for words in args.words:
        shares = [recognised(detector, beginnings(lines[tag], words), tag, tuple(files)) for tag in files]
        rows.append([f"{words or 'all'} words", *(f"{100 * share:.1f} %" for share in shares)])
    print_table(["text", *files], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
