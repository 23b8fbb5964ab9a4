"""How well each head of the cross-attention aligns words, by which of them an export aligns, and how others align them.

    pip install eflomal
    python bench/alignment.py deploy/models/en-de/1 --pairs recipes/alignments/en-de.tsv --training TRAINING.tsv.xz

Each line of the pairs is `source TAB target TAB 0-0 1-2 ...`: words that are translations of each other, as their
numbers in the two sentences. Words are separated by blanks. The model is fed the given translation; a word gets a link
to every word that its tokens attend to most, in the step that emits a token (shift 0) or in the one that is fed it (1).
The alignment error rate (AER) is 1 - 2 |A and G| / (|A| + |G|) for links A and given pairs G (Och and Ney 2003).
`agreement` is that of `dragoman_export.alignment`, on greedy translations of the same sources; an export chooses the
largest, on sentences of its own. `needed most` are the links that heads have to agree with.

With `--training`, whose lines begin with `source TAB target`, eflomal (Östling and Tiedemann 2016) is trained on its
first pairs and on the aligned ones, in small letters and without punctuation.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from bench.measure.common import print_header, print_table
from dragoman_export.alignment import Translated, agreement, attention_weights, needed_most
from dragoman_export.read_back import read_model
from dragoman_model.evaluation.greedy import greedy_translations
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import AlignmentHead
from dragoman_service.bundle.tokenizers.protocol import Tokenizer

MAX_LENGTH = 60
Links = frozenset[tuple[int, int]]
"""Numbers of words of a source and of its target."""


class Aligned(NamedTuple):
    """A pair of sentences with links between words."""

    source: list[str]
    target: list[str]
    links: Links


def read_pairs(path: Path, *, turned: bool = False) -> list[Aligned]:
    """The pairs of a file; with `turned`, the languages change places."""
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        source, target, links = line.split("\t")
        pair = Aligned(source.split(), target.split(), links_of(links))
        pairs.append(Aligned(pair.target, pair.source, swapped(pair.links)) if turned else pair)
    return pairs


def links_of(text: str) -> Links:
    """Links as `0-0 1-2`."""
    return frozenset((int(source), int(target)) for source, target in (link.split("-") for link in text.split()))


def swapped(links: Links) -> Links:
    """Links of the other direction."""
    return frozenset((target, source) for source, target in links)


def error_rate(pairs: Sequence[Aligned], found: Iterable[Links]) -> float:
    """The alignment error rate of links for all pairs together."""
    both = total = 0
    for pair, links in zip(pairs, found, strict=True):
        both += len(links & pair.links)
        total += len(links) + len(pair.links)
    return 1 - 2 * both / total


class Model:
    """The PyTorch model of a bundle, and its tokenizer."""

    def __init__(self, bundle: Bundle) -> None:
        self._tokenizer: Tokenizer = bundle.tokenizer
        self._languages = next(iter(bundle.manifest.languages.all_pairs()))
        self.model: Transformer = read_model(bundle.path, bundle.manifest.architecture)

    def links(self, pair: Aligned) -> tuple[dict[tuple[AlignmentHead, int], Links], Links]:
        """(Head, shift) -> the links that it gives, and those of `needed_most`."""
        (source, source_words), (target, target_words) = self._words(pair.source), self._words(pair.target)
        given = self._translated(source, target)
        before = next(i for i in range(len(given.source)) if list(given.source[i : i + len(source)]) == source)

        def linked(places: list[int]) -> Links:
            found = zip((place - before for place in places), target_words, strict=True)
            return frozenset((source_words[place], word) for place, word in found if 0 <= place < len(source))

        places = attention_weights(self.model, given.source, [*given.forced, *target]).argmax(-1)[
            :, :, len(given.forced) :
        ]
        heads = {
            (AlignmentHead(layer, head), shift): linked(of_head[shift : shift + len(target)])
            for layer, of_layer in enumerate(places.tolist())
            for head, of_head in enumerate(of_layer)
            for shift in (0, 1)
        }
        return heads, linked(needed_most(self.model, given).tolist())

    def agreement(self, pairs: Sequence[Aligned]) -> dict[AlignmentHead, float]:
        """Head -> its agreement on greedy translations of the sources."""
        given = [self._translated(self._tokenizer.encode(" ".join(it.source)), []) for it in pairs]
        targets = greedy_translations(self.model, [it.source for it in given], MAX_LENGTH, [it.forced for it in given])
        return agreement(self.model, (it._replace(target=target) for it, target in zip(given, targets, strict=True)))

    def _translated(self, source: Sequence[int], target: Sequence[int]) -> Translated:
        """What the model is fed, for the ids of texts."""
        tokenizer, languages = self._tokenizer, self._languages
        ids, others = tokenizer.source(source, *languages), tokenizer.source([], *languages)
        return Translated(ids, target, tokenizer.forced(languages[1]), others)

    def _words(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """The token ids of a sentence, and the number of the word of each."""
        ids = [self._tokenizer.encode(word) for word in words]
        return list(chain.from_iterable(ids)), [number for number, word in enumerate(ids) for _ in word]


def eflomal_links(pairs: Sequence[Aligned], training: Iterable[tuple[str, str]]) -> dict[str, list[Links]]:
    """How links are made -> those of all pairs, by eflomal after training with `training` and `pairs`."""
    import eflomal  # noqa: PLC0415  (only for this)

    sides = [(" ".join(map(_bare, it.source)), " ".join(map(_bare, it.target))) for it in pairs]
    for source, target in training:
        sides.append((" ".join(map(_bare, source.split())), " ".join(map(_bare, target.split()))))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("forward", "reverse")]
        sources, targets = zip(*sides, strict=True)
        eflomal.Aligner().align(sources, targets, *map(str, files))
        forward, reverse = ([links_of(line) for line in islice(file.open(), len(pairs))] for file in files)
    both = list(zip(forward, reverse, strict=True))
    return {
        "forward": forward,
        "reverse": reverse,
        "intersection": [one & other for one, other in both],
        "grow-diag-final-and": [grown(one, other) for one, other in both],
    }


def grown(one: Links, other: Links) -> Links:
    """The links of both directions, and of the others those that grow-diag-final-and adds (Koehn et al. 2005)."""
    links, candidates = set(one & other), sorted(one | other)

    def free(link: tuple[int, int]) -> tuple[bool, bool]:
        return all(link[0] != source for source, _ in links), all(link[1] != target for _, target in links)

    growing = True
    while growing:
        growing = False
        for link in candidates:
            near = any(max(abs(link[0] - a), abs(link[1] - b)) == 1 for a, b in links)
            if link not in links and near and any(free(link)):
                links.add(link)
                growing = True
    for direction in (one, other):
        for link in sorted(direction):
            if all(free(link)):
                links.add(link)
    return frozenset(links)


def _bare(word: str) -> str:
    """A word in small letters without punctuation around it."""
    return word.strip(".,;:!?\"'()").lower() or word


def _training(path: Path, count: int, *, turned: bool) -> Iterator[tuple[str, str]]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in islice(lines, count):
            source, target, *_ = line.rstrip("\n").split("\t")
            yield (target, source) if turned else (source, target)


def main() -> int:
    """Run from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--turned", action="store_true", help="translate from the second language of the files")
    parser.add_argument("--training", type=Path, metavar="FILE", help="pairs for eflomal; .xz is decompressed")
    parser.add_argument("--training-pairs", type=int, default=50_000, help="default: 50000")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.load(args.bundle)
    model, pairs = Model(bundle), read_pairs(args.pairs, turned=args.turned)
    found, needed = zip(*map(model.links, pairs), strict=True)
    shares = model.agreement(pairs)
    settings = {"pairs": len(pairs), "pairs of training": args.training_pairs if args.training else 0}
    print_header(f"Heads that align, {bundle.manifest.name}", settings)
    lines: list[tuple[object, ...]] = []
    for head, shift in found[0]:
        rate = error_rate(pairs, [links[head, shift] for links in found])
        lines.append((head.layer, head.head, shift, f"{rate:.3f}", None if shift else f"{shares[head]:.3f}"))
    print_table(("layer", "head", "shift", "AER", "agreement"), sorted(lines, key=lambda line: str(line[3])))
    others: dict[str, Sequence[Links]] = {"needed most": needed}
    if args.training:
        training = _training(args.training, args.training_pairs, turned=args.turned)
        others |= {f"eflomal, {name}": links for name, links in eflomal_links(pairs, training).items()}
    print_table(("other links", "AER"), [(name, f"{error_rate(pairs, links):.3f}") for name, links in others.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
