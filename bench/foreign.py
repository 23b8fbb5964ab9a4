"""How many lines a served import translates as the program that its checkpoint is of.

    python -m bench.foreign --server localhost:50051 --model opus-mt-en-de expected.json [--beam-size 4]

expected.json is a list of `{"text": ..., "translation": ..., "tokens": ...}`: a line, what the other program makes of
it with the same beam size and at most `--max-length` tokens, and the number of tokens, its end included. It prints the
share of equal lines and the first places at which others differ.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dragoman_service.client.client import TranslationClient
from dragoman_service.client.values import Options

SHOWN = 5
"""Differences that are printed."""


def main() -> None:
    """Translate and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expected", type=Path)
    parser.add_argument("--server", default="localhost:50051")
    parser.add_argument("--model", default="")
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=40)
    args = parser.parse_args()
    cases = json.loads(args.expected.read_text(encoding="utf-8"))
    options = Options(model=args.model, beam_size=args.beam_size, max_length=args.max_length, return_tokens=True)
    with TranslationClient(args.server, texts_per_call=8) as client:
        found = client.translate([case["text"] for case in cases], options)
    pairs = list(zip(cases, found, strict=True))
    different = [(case, it) for case, it in pairs if it.text.strip() != case["translation"].strip()]
    whole = [pair for pair in different if pair[1].sentences == 1]
    split = sum(it.sentences > 1 for it in found)
    print(f"{len(cases) - len(different)} of {len(cases)} lines the same")
    print(f"{split} lines have several sentences, which are translated one by one; of the others {len(whole)} differ")
    for case, it in whole[:SHOWN]:
        tokens = len(it.hypotheses[0].tokens)
        print(f"{case['text']}\n  expected ({case['tokens']} tokens) {case['translation']}\n  got ({tokens}) {it.text}")


if __name__ == "__main__":
    main()
