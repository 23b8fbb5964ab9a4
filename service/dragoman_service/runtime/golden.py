"""Golden sentences: translations stored in a bundle at export, which every server must reproduce."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from dragoman_service.bundle.bundle import Bundle, GoldenSentence
from dragoman_service.bundle.manifest import Manifest
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.engine.plan import Runner
from dragoman_service.engine.request import DecodingOptions, Failed, Finished, Hypothesis, Normalisation, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces
from dragoman_service.errors import DragomanError

SCORE_TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"""Precision -> allowed difference of natural log-probabilities.

It is far above the differences between processors, and far below the error of a wrong kernel.
"""


def normalisation_of(manifest: Manifest) -> Normalisation:
    """The length penalty of a model."""
    return Normalisation(manifest.generation.normalisation)


def translate(
    runner: Runner,
    requests: Sequence[Request],
    max_rows: int,
    special_ids: SpecialIds,
    *,
    vocab_size: int | None = None,
    byte_pieces: BytePieces = NO_BYTE_PIECES,
) -> list[Hypothesis]:
    """The best hypothesis of each request, in order. The requests are decoded together with continuous batching.

    With `vocab_size` and the byte pieces of a tokenizer, these form whole characters, as in translations of texts.

    Raises:
        DragomanError: a request failed. Exceptions of the runner are passed on unchanged.
    """
    scheduler = Scheduler(
        max_rows=max_rows,
        begin_id=special_ids.begin,
        end_id=special_ids.end,
        max_positions=runner.max_positions,
        vocab_size=vocab_size,
        byte_pieces=byte_pieces,
    )
    for request in requests:
        scheduler.add(request, now=0.0)
    best: dict[int, Hypothesis] = {}
    while (plan := scheduler.plan()) is not None:
        for event in scheduler.commit(plan, runner.run(plan), now=0.0):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                best[event.request_id] = event.hypotheses[0]
    return [best[request.id] for request in requests]


def request_for(golden: GoldenSentence, request_id: int, manifest: Manifest) -> Request:
    """The request that must give a golden sentence's translation by the bundle of a manifest."""
    return Request(
        id=request_id,
        source=golden.source_ids,
        max_length=golden.max_length,
        options=DecodingOptions(beam_size=golden.beam_size, length_penalty=golden.length_penalty),
        forced=golden.forced_ids,
        normalisation=normalisation_of(manifest),
    )


def verify(bundle: Bundle, runner: Runner, *, max_rows: int) -> list[str]:
    """Translate a bundle's golden sentences. Returns a message for every difference.

    Sentences whose beam is wider than `max_rows` are left out: this server cannot run such requests.
    """
    golden = [sentence for sentence in bundle.golden if sentence.beam_size <= max_rows]
    manifest = bundle.manifest
    tolerance = SCORE_TOLERANCE[manifest.precision]
    problems = []
    for sentence in golden:
        if not _has_these_ids(bundle, sentence):
            problems.append(f"golden sentence {sentence.source!r}: the tokenizer gives other ids")
    try:
        requests = [request_for(sentence, i, manifest) for i, sentence in enumerate(golden)]
        found = translate(runner, requests, max_rows, manifest.special_ids)
    except (DragomanError, RuntimeError, ValueError) as error:
        return [*problems, f"golden sentences cannot be translated: {error}"]
    return [
        *problems,
        *(problem for pair in zip(golden, found, strict=True) for problem in differences(*pair, tolerance)),
    ]


def _has_these_ids(bundle: Bundle, golden: GoldenSentence) -> bool:
    """Whether a golden sentence has the source and forced ids of its languages, or of some pair if it has none."""
    tokenizer, languages = bundle.tokenizer, bundle.manifest.languages
    ids, wanted = tokenizer.encode(golden.source), (golden.source_ids, golden.forced_ids)
    pairs = languages.matching(*golden.languages) if len(golden.languages) == 2 else languages.all_pairs()
    return any((tokenizer.source(ids, source, target), tokenizer.forced(target)) == wanted for source, target in pairs)


def differences(golden: GoldenSentence, found: Hypothesis, tolerance: float) -> Iterator[str]:
    """Differences between a golden sentence and a translation of it."""
    name = f"golden sentence {golden.source!r}, beam {golden.beam_size}"
    if found.tokens != golden.target_ids:
        yield f"{name}: token ids {list(found.tokens)} instead of {list(golden.target_ids)}"
    elif not _close([found.score, *found.token_scores], [golden.score, *golden.token_scores], tolerance):
        yield f"{name}: score {found.score:.6f} instead of {golden.score:.6f}, or a token score as far off"


def _close(found: Iterable[float], wanted: Iterable[float], tolerance: float) -> bool:
    return all(math.isclose(a, b, rel_tol=0, abs_tol=tolerance) for a, b in zip(found, wanted, strict=True))
