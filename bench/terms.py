"""Terms: how many stand in the translation, and what they cost the text around them.

    pip install eflomal
    python bench/terms.py --data DATA

The terms are taken from references: a word that the plain translation lacks, with the word of the source to which it is
aligned. There is one in each sentence. BLEU outside is that of the text without the term and, in the plain translation,
without its counterpart, over the sentences in which one is found: so the same words are compared. The ways are

- terms: `TranslateRequest.terms`. If the bundle gives alignments, the words to which the model aligns the source are
  replaced by the target. Else, and where it aligns none, the model reads a stand-in, in whose place the target stands;
- target in the source: the model reads the target in the place of the source, and may copy it;
- replaced: in the plain translation, the word to which eflomal aligns the source is replaced by the target;
- forced: as replaced, but the model translates the rest of the sentence anew, after the target (a target prefix).
"""

from __future__ import annotations

import argparse
import lzma
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import eflomal
import grpc
from sacrebleu.metrics import BLEU

from bench.measure.common import ROOT, print_header, print_table, progress
from bench.measure.servers import dragoman_command, server_process
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.bundle import Bundle

SETS = ("tatoeba-valid.en-de", "newstest2013.en-de", "dialogue-valid.en-de")
PAIRS = ("en-de", "de-en")
COMMON = 200
"""So many of the commonest words of the references are no terms."""
CALL = 64
TOKEN = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")

Links = dict[int, list[int]]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with a term."""

    source: str
    reference: str
    plain: str
    """Its translation without the term."""
    term: tuple[int, int]
    """Characters of the term in the source."""
    target: str
    counterpart: tuple[int, int] | None
    """Characters of the word in `plain` to which the term is aligned; None: it is aligned to none."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dev/ and train/")
    parser.add_argument("--sentences", type=int, default=500, help="of each direction")
    parser.add_argument("--training", type=int, default=50_000, help="further pairs for the aligner")
    parser.add_argument("--bundles", type=Path, nargs="*", default=[ROOT / f"deploy/models/{it}/1" for it in PAIRS])
    given = parser.parse_args()
    print_header("Terms", {"sentences": given.sentences, "pairs for the aligner": given.training})
    rows = []
    for bundle in given.bundles:
        manifest = Bundle.load(bundle).manifest
        source, target = manifest.languages.pairs[0]
        with server_process(dragoman_command(bundle)) as server, grpc.insecure_channel(server.address) as channel:
            model = Model(translation_pb2_grpc.TranslationStub(channel))
            sentences = with_terms(given.data, source, target, given.sentences, given.training, model)
            for way, (outputs, seconds) in ways(sentences, model):
                rows.append(
                    [
                        f"{source}-{target}",
                        "yes" if manifest.alignments else "no",
                        way,
                        *scores(sentences, outputs),
                        f"{seconds:.1f}",
                    ]
                )
                progress(" ".join(rows[-1]))
    print_table(["direction", "alignments", "way", "terms present", "BLEU outside", "BLEU", "seconds"], rows)


class Model:
    """The model of a server."""

    def __init__(self, stub: translation_pb2_grpc.TranslationStub) -> None:
        self._stub = stub

    def translate(self, texts: Sequence[str], terms: Sequence[pb.Term] = (), prefixes: Sequence[str] = ()) -> list[str]:
        """Translate sentences, each with a term of its own, or none has one."""
        size = 1 if terms else CALL
        running, found = [], []
        for start in range(0, len(texts), size):
            part = slice(start, start + size)
            request = pb.TranslateRequest(texts=texts[part], terms=terms[part], target_prefixes=prefixes[part])
            running.append(self._stub.Translate.future(request, timeout=3600))
            if len(running) == (CALL if terms else 4):
                found.append(running.pop(0).result())
        found += [call.result() for call in running]
        return [it.hypotheses[0].text for reply in found for it in reply.translations]


def ways(sentences: Sequence[Sentence], model: Model) -> Iterator[tuple[str, tuple[list[str], float]]]:
    """The translations of each way, and the seconds that they took."""
    plain = [it.plain for it in sentences]
    sources = [it.source for it in sentences]
    start = time.perf_counter()
    model.translate(sources)
    yield "plain", (plain, time.perf_counter() - start)
    terms = [pb.Term(source=it.source[slice(*it.term)], target=it.target) for it in sentences]
    start = time.perf_counter()
    yield "terms", (model.translate(sources, terms), time.perf_counter() - start)
    changed = [it.source[: it.term[0]] + it.target + it.source[it.term[1] :] for it in sentences]
    start = time.perf_counter()
    yield "target in the source", (model.translate(changed), time.perf_counter() - start)
    yield "replaced", ([replaced(it) for it in sentences], 0.0)
    start = time.perf_counter()
    forced = [number for number, it in enumerate(sentences) if it.counterpart]
    prefixes = [_prefix(sentences[number]) for number in forced]
    found = plain.copy()
    for number, text in zip(forced, model.translate([sources[it] for it in forced], (), prefixes), strict=True):
        found[number] = text
    yield "forced", (found, time.perf_counter() - start)


def replaced(sentence: Sentence) -> str:
    """The plain translation with the target of the term."""
    if sentence.counterpart is None:
        return sentence.plain
    start, end = sentence.counterpart
    return sentence.plain[:start] + sentence.target + sentence.plain[end:]


def _prefix(sentence: Sentence) -> str:
    assert sentence.counterpart is not None
    start, end = sentence.counterpart
    return sentence.plain[:start] + sentence.target + sentence.plain[end : end + 1]


def scores(sentences: Sequence[Sentence], outputs: Sequence[str]) -> list[str]:
    """Share of terms present, BLEU of the text outside, of sentences with a counterpart, and BLEU of all."""
    present = [_find(it.target, output) is not None for it, output in zip(sentences, outputs, strict=True)]
    outside, references = [], []
    for it, output in zip(sentences, outputs, strict=True):
        if it.counterpart is not None:
            place = _find(it.target, output) or (it.counterpart if output == it.plain else None)
            outside.append(_without(output, place))
            references.append(_without(it.reference, _find(it.target, it.reference)))
    bleu = BLEU()
    return [
        f"{100 * sum(present) / len(present):.1f} %",
        f"{bleu.corpus_score(outside, [references]).score:.2f}",
        f"{bleu.corpus_score(outputs, [[it.reference for it in sentences]]).score:.2f}",
    ]


def _find(word: str, text: str) -> tuple[int, int] | None:
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    return match.span() if match else None


def _without(text: str, place: tuple[int, int] | None) -> str:
    return " ".join((text if place is None else text[: place[0]] + text[place[1] :]).split())


def with_terms(data: Path, source: str, target: str, count: int, training: int, model: Model) -> list[Sentence]:
    """Sentences of the sets in turns, with a term of each."""
    pairs = [pair for row in zip(*(_pairs(data, name, source, target) for name in SETS), strict=False) for pair in row]
    pairs = pairs[: 4 * count]
    progress(f"{source}-{target}: translating {len(pairs)} sentences")
    plain = model.translate([one for one, _ in pairs])
    more = list(islice(_training(data, source), training))
    corpus = [*pairs, *((one, it) for (one, _), it in zip(pairs, plain, strict=True)), *more]
    progress("aligning")
    links = align(corpus)
    frequent = Counter(word for _, reference in pairs for word in TOKEN.findall(reference.lower()))
    common = {word for word, _ in frequent.most_common(COMMON)}
    found = []
    for number, ((one, reference), output) in enumerate(zip(pairs, plain, strict=True)):
        chosen = _term(one, reference, output, links[number], common)
        if chosen is None:
            continue
        position, term, word = chosen
        counterparts = links[len(pairs) + number].get(position, [])
        places = [match.span() for match in TOKEN.finditer(output)]
        words = [places[it] for it in counterparts if output[slice(*places[it])][0].isalpha()]
        found.append(Sentence(one, reference, output, term, word, words[0] if words else None))
    progress(f"{len(found)} sentences have a term")
    return found[:count]


def _term(
    source: str, reference: str, output: str, links: Links, common: set[str]
) -> tuple[int, tuple[int, int], str] | None:
    """A term of a sentence: the number of the token of the source, its characters, and the word of the reference."""
    ours, theirs = list(TOKEN.finditer(source)), list(TOKEN.finditer(reference))
    lower = Counter(TOKEN.findall(source.lower()))
    for position, targets in links.items():
        word, match = theirs[targets[0]][0], ours[position]
        if (
            len(targets) == 1
            and sum(targets == other for other in links.values()) == 1
            and all(len(it) >= 4 and it.isalpha() for it in (word, match[0]))
            and word.lower() not in common
            and reference.lower().count(word.lower()) == 1
            and word.lower() not in output.lower()
            and lower[match[0].lower()] == 1
        ):
            return position, match.span(), word
    return None


def align(corpus: Sequence[tuple[str, str]]) -> list[Links]:
    """Tokens of the first side -> tokens of the second, where both directions of the aligner agree."""
    with tempfile.TemporaryDirectory() as folder:
        forward, backward = Path(folder) / "forward", Path(folder) / "backward"
        sides = [[" ".join(TOKEN.findall(pair[side].lower())) for pair in corpus] for side in (0, 1)]
        eflomal.Aligner().align(*sides, links_filename_fwd=str(forward), links_filename_rev=str(backward), quiet=True)
        found = []
        for one, other in zip(forward.read_text().splitlines(), backward.read_text().splitlines(), strict=True):
            links: Links = {}
            for pair in sorted(set(one.split()) & set(other.split())):
                first, second = map(int, pair.split("-"))
                links.setdefault(first, []).append(second)
            found.append(links)
    return found


def _pairs(data: Path, name: str, source: str, target: str) -> list[tuple[str, str]]:
    sides = [(data / "dev" / f"{name}.{it}").read_text("utf-8").splitlines() for it in (source, target)]
    return list(zip(*sides, strict=True))


def _training(data: Path, source: str) -> Iterator[tuple[str, str]]:
    with lzma.open(data / "train/en-de.tsv.xz", "rt", encoding="utf-8") as file:
        for line in file:
            english, german, name, _ = line.rstrip("\n").split("\t")
            if name == "tatoeba":
                yield (english, german) if source == "en" else (german, english)


if __name__ == "__main__":
    main()
