"""The other programs themselves translate what was written as we do. They need not be installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman_export.elsewhere.own import OwnModel, read_own
from dragoman_export.elsewhere.write import write_elsewhere
from dragoman_export.imports.architecture import NEVER
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_service.bundle.tokenizer import Tokenizer
from support.elsewhere_models import CT2_ALONE, SEVERAL, SWITCHES, checkpoint
from support.tiny import sentences

TEXTS = sentences(20)
LENGTH = 30
LEAST = -100.0
"""Log-probability below which all are equal."""
CLOSE = {"rtol": 0, "atol": 2e-4}


def expected(own: OwnModel, target: str = "de") -> tuple[list[list[int]], list[list[int]]]:
    """Sources and greedy translations as ids."""
    tokenizer = Tokenizer(own.tokenizer_model)
    sources = [list(tokenizer.source(tokenizer.encode(text), "en", target)) for text in TEXTS]
    with torch.no_grad():
        return sources, greedy_cached(own.model, sources, LENGTH)


@torch.no_grad()
def log_probabilities_of(own: OwnModel, source: list[int], target: list[int]) -> torch.Tensor:
    """[T + 1, V], of the tokens of a target and of its end. Ids that no translation contains are impossible."""
    logits = own.model(torch.tensor([source]), torch.tensor([[own.config.begin_id, *target]]))[0]
    logits[:, list(own.config.banned_ids)] = NEVER
    return logits.log_softmax(-1).clamp(min=LEAST)


@pytest.mark.parametrize("name", [*SWITCHES, *CT2_ALONE])
def test_ctranslate2_translates_as_we_do(name: str, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    path = checkpoint(tmp_path / "checkpoint", {**SWITCHES, **CT2_ALONE}[name])
    own, folder = read_own(path), tmp_path / "out"
    write_elsewhere(path, "ctranslate2", folder)
    sources, targets = expected(own)
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    pieces = [[own.pieces[it] for it in ids[:-1]] for ids in sources]
    results = translator.translate_batch(pieces, beam_size=1, min_decoding_length=0, max_decoding_length=LENGTH)
    wanted = [[own.pieces[i] for i in ids] for ids in targets]
    assert [it.hypotheses[0] for it in results] == wanted
    for source, target, scored in zip(sources, targets, translator.score_batch(pieces, wanted), strict=True):
        right = log_probabilities_of(own, source, target)
        labels = torch.tensor([*target, 2])
        torch.testing.assert_close(torch.tensor(scored.log_probs), right.gather(1, labels[:, None])[:, 0], **CLOSE)
    assert len({tuple(ids) for ids in targets}) > len(targets) // 2


@pytest.mark.parametrize("name", [*SWITCHES, "several"])
def test_transformers_translates_as_we_do(name: str, tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    pairs = SEVERAL if name == "several" else SEVERAL[:1]
    path = checkpoint(tmp_path / "checkpoint", SWITCHES.get(name, {}), pairs)
    own, folder = read_own(path), tmp_path / "out"
    write_elsewhere(path, "hf", folder)
    sources, targets = expected(own)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    texts = [f">>de<<{text}" for text in TEXTS] if name == "several" else TEXTS
    assert [tokenizer(text).input_ids for text in texts] == sources
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    rows = model.eval().generate(**batch, num_beams=1, do_sample=False, max_length=LENGTH + 1).tolist()
    assert [[it for it in row[1:] if it not in (0, 2)] for row in rows] == targets
    for source, target in zip(sources[:5], targets[:5], strict=True):
        with torch.no_grad():
            ids = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[1, *target]])}
            found = model(**ids).logits[0].log_softmax(-1).clamp(min=LEAST)
        torch.testing.assert_close(found, log_probabilities_of(own, source, target), **CLOSE)
    ours = Tokenizer(own.tokenizer_model)
    shown = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert [it.strip() for it in shown] == [ours.decode(ids).strip() for ids in targets]
    assert len({tuple(ids) for ids in targets}) > len(targets) // 2
