"""Translation with a bundle alone, one sentence after the other. Every served translation must equal it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.measure.calls import Search
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions, Request
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.text.segmenter import on_one_line


def translate_alone(bundle_path: Path, sentences: Sequence[str], search: Search) -> list[str]:
    """Translate each sentence in a batch of its own. The server must take each as one sentence too."""
    bundle = Bundle.load(bundle_path)
    tokenizer = bundle.tokenizer
    runner = OrtRunner(bundle, max_rows=search.beam_size, threads=1)
    options = DecodingOptions(beam_size=search.beam_size, length_penalty=search.length_penalty)
    texts = []
    for sentence in sentences:
        source = (*tokenizer.encode(sentence), tokenizer.end_id)
        request = Request(id=0, source=source, max_length=search.max_length, options=options)
        (hypothesis,) = translate(runner, [request], search.beam_size, bundle.manifest.special_ids)
        texts.append(on_one_line(tokenizer.decode(hypothesis.tokens)))
    runner.close()
    return texts
