"""How well each head of the cross-attention aligns words, and by which of them an export would align.

    python bench/alignment.py deploy/models/en-de/1 --pairs recipes/alignments/en-de.tsv

Each line of the file is `source TAB target TAB 0-0 1-2 ...`: pairs of words that are translations of each other, as
their numbers in the two sentences. Words are separated by blanks. The model is fed the given translation; a word gets a
link to every word that its tokens attend to most, in the step that emits a token (shift 0) or in the one that is fed it
(1). The alignment error rate (AER) is 1 - 2 |A and G| / (|A| + |G|) for links A and given pairs G (Och and Ney 2003).
`agreement` is that of `dragoman_export.alignment`, on greedy translations of the same sources.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import print_header, print_table
from dragoman_export.alignment import agreement, attention_weights
from dragoman_export.read_back import read_model
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizers.protocol import Tokenizer

MAX_LENGTH = 60


class Aligned(NamedTuple):
    """A pair of sentences with links between words."""

    source: list[str]
    target: list[str]
    links: frozenset[tuple[int, int]]


def read_pairs(path: Path, *, turned: bool = False) -> list[Aligned]:
    """The pairs of a file; with `turned`, the languages change places."""
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        source, target, links = line.split("\t")
        numbers = [tuple(map(int, link.split("-"))) for link in links.split()]
        if turned:
            source, target, numbers = target, source, [(there, here) for here, there in numbers]
        pairs.append(Aligned(source.split(), target.split(), frozenset((a, b) for a, b in numbers)))
    return pairs


def words_of(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """The token ids of a sentence, and the number of the word of each."""
    ids = [tokenizer.encode(word) for word in words]
    return list(chain.from_iterable(ids)), [number for number, word in enumerate(ids) for _ in word]


def main() -> int:
    """Run from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--turned", action="store_true", help="translate from the second language of the file")
    args = parser.parse_args()
    bundle = Bundle.load(args.bundle)
    tokenizer, model = bundle.tokenizer, read_model(bundle.path, bundle.manifest.architecture)
    pairs = read_pairs(args.pairs, turned=args.turned)
    end = bundle.manifest.special_ids.end
    counts = {
        (layer, head, shift): [0, 0, 0]
        for layer in range(model.config.decoder_layers)
        for head in range(model.config.num_heads)
        for shift in (0, 1)
    }
    for pair in pairs:
        (source, source_words), (target, target_words) = (words_of(tokenizer, it) for it in (pair.source, pair.target))
        places = attention_weights(model, [*source, end], target).argmax(-1)
        for (layer, head, shift), count in counts.items():
            found = places[layer, head, shift : shift + len(target)].tolist()
            links = {(source_words[at], word) for at, word in zip(found, target_words, strict=True) if at < len(source)}
            count[0] += len(links & pair.links)
            count[1] += len(links)
            count[2] += len(pair.links)
    sources = [[*tokenizer.encode(" ".join(pair.source)), end] for pair in pairs]
    shares = agreement(model, list(zip(sources, greedy_cached(model, sources, MAX_LENGTH), strict=True)))
    print_header(f"Heads that align, {bundle.manifest.name}", {"pairs": len(pairs)})
    lines = [
        (*place, f"{1 - 2 * both / (links + given):.3f}", None if place[2] else f"{shares[place[:2]]:.3f}")
        for place, (both, links, given) in counts.items()
    ]
    print_table(("layer", "head", "shift", "AER", "agreement"), sorted(lines, key=lambda line: line[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
