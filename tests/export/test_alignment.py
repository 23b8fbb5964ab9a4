"""The choice of the head that aligns, and that bundles align by the head that their manifests name."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from dragoman_export import exporter
from dragoman_export.alignment import Translated, agreement, attention_weights, choose_head, needed_most
from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.graphs import build_decoder
from dragoman_export.report import VerificationError
from dragoman_export.sources import Sources
from dragoman_model.transformer import MultiHeadAttention, Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import AlignmentHead
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.cli import main as cli
from dragoman_service.engine.plan import Join, StepPlan
from dragoman_service.runtime.runner import OrtRunner
from support.tiny import tokenizer_model
from support.tiny_checkpoint import random_model, write_checkpoint

END = 2
PAIRS = [
    Translated([5, 6, 7, END], [9, 10], others=[END]),
    Translated([8, 9, END], [12, 13], forced=[11], others=[END]),
    Translated([8, END], [], others=[END]),
]
HEADS = [AlignmentHead(layer, head) for layer in range(2) for head in range(2)]
SENTENCES = "The cat sees the dog.\nYes.\nA green house, and an old tree.\n"


def model_with_one_head(used: AlignmentHead) -> Transformer:
    """A random model whose decoder knows the source by one head of its cross-attention alone."""
    model = random_model(seed=3)
    for head in HEADS:
        attention = model.get_submodule(f"decoder.{head.layer}.cross_attention")
        assert isinstance(attention, MultiHeadAttention)
        columns = slice(head.head * attention.head_dim, (head.head + 1) * attention.head_dim)
        with torch.no_grad():
            attention.output.weight[:, columns] *= 4 if head == used else 0
    return model


def sentences() -> tuple[Sources, Tokenizer]:
    tokenizer = Tokenizer(tokenizer_model())
    return Sources(tokenizer, (("en", "de"),), 100), tokenizer


def test_weights_are_those_of_every_head_in_every_step() -> None:
    model = random_model(seed=1, decoder_layers=3)
    weights = attention_weights(model, *PAIRS[0][:2])
    assert weights.shape == (3, model.config.num_heads, 3, 4)
    assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:3]))


@torch.no_grad()
@pytest.mark.parametrize("pair", PAIRS)
def test_a_token_comes_from_the_source_token_without_which_it_is_least_likely(pair: Translated) -> None:
    model = random_model(seed=1)
    ids = torch.tensor([list(pair.source)])
    fed = torch.tensor([[model.config.begin_id, *pair.forced, *pair.target]])
    cross = model.project_cross(model.encode(ids))
    expected = []
    for step, token in enumerate(pair.target, start=len(pair.forced)):
        left = []
        for place in range(len(pair.source) - 1):  # without the end
            kept = [at for at in range(len(pair.source)) if at != place]
            shorter = [(key[:, :, kept], value[:, :, kept]) for key, value in cross]
            decoded = model.decode(fed[:, : step + 1], shorter, model.source_mask(ids[:, kept]))
            left.append(float(model.project_output(decoded[0, -1]).log_softmax(-1)[token]))
        expected.append(left.index(min(left)))
    assert needed_most(model, pair).tolist() == expected


def test_agreement_counts_the_tokens_that_are_not_forced() -> None:
    model = random_model(seed=1, decoder_layers=3)
    found = agreement(model, PAIRS)
    assert len(found) == 3 * model.config.num_heads
    for place, share in found.items():
        same = [
            attention_weights(model, pair.source, [*pair.forced, *pair.target])[place.layer, place.head, step].argmax()
            == needed_most(model, pair)[step - len(pair.forced)]
            for pair in PAIRS
            for step in range(len(pair.forced), len(pair.forced) + len(pair.target))
        ]
        assert share == pytest.approx(sum(map(int, same)) / 4)


@pytest.mark.parametrize("used", HEADS)
def test_the_head_is_chosen_that_the_model_uses(used: AlignmentHead) -> None:
    sources, tokenizer = sentences()
    assert choose_head(model_with_one_head(used), sources.typical(), tokenizer, 30) == used


def test_an_export_chooses_and_says_the_head(tmp_path: Path) -> None:
    used = HEADS[1]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model_with_one_head(used))
    bundle, _ = export_checkpoint(checkpoint, tmp_path / "m" / "1", ExportOptions("m", "1"))
    assert bundle.manifest.alignment == used
    assert Bundle.load(bundle.path).manifest.alignment == used


def given_head(checkpoint: Path, folder: Path, head: AlignmentHead, precision: str = "fp32") -> Bundle:
    """An export of `checkpoint` to a bundle in `folder` that aligns by `head`."""
    path = folder / "sentences.txt"
    path.write_text(SENTENCES, encoding="utf-8")
    options = ExportOptions("m", "1", precision=precision, sentences=path, calibration=path, alignment=head)
    return export_checkpoint(checkpoint, folder / "m" / "1", options)[0]


@pytest.mark.parametrize("head", HEADS)
def test_a_bundle_aligns_by_the_head_of_its_manifest(
    tiny_checkpoint: Path, tmp_path: Path, head: AlignmentHead
) -> None:
    bundle = given_head(tiny_checkpoint, tmp_path, head)
    assert bundle.manifest.alignment == head
    model, source, target = random_model(), [5, 8, 6, 9, 7, 10, 11, END], [9, 10, 4, 30, 7, 21, 15, 6]
    wanted = attention_weights(model, source, target)[head.layer, head.head].argmax(-1).tolist()
    assert len(set(wanted)) > 1
    runner = OrtRunner(bundle, max_rows=1, threads=1)
    found = []
    for position, token in enumerate([model.config.begin_id, *target]):
        joins = (Join(tuple(source), (0,)),) if position == 0 else ()
        step = runner.run(StepPlan((), joins, (token,), (position,), (len(source),), num_candidates=1))
        found.append(int(step.aligned[0][0]))
    runner.close()
    assert found == wanted


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_is_proven_with_any_head(tiny_checkpoint: Path, tmp_path: Path, precision: str) -> None:
    bundle = given_head(tiny_checkpoint, tmp_path, HEADS[1], precision)
    assert (bundle.manifest.precision, bundle.manifest.alignment) == (precision, HEADS[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("built", [None, HEADS[0], HEADS[3]])
def test_a_graph_that_aligns_by_another_head_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: AlignmentHead | None, precision: str
) -> None:
    def build_wrongly(builder: object, _: AlignmentHead | None) -> onnx.ModelProto:
        return build_decoder(builder, built)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "build_decoder", build_wrongly)
    with pytest.raises(VerificationError, match="aligned differs"):
        given_head(tiny_checkpoint, tmp_path, HEADS[1], precision)
    assert not (tmp_path / "m").exists()


def test_the_command_takes_a_head(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "m" / "1"
    assert cli.main(["export", str(tiny_checkpoint), "--output", str(output), "--alignment", "1:1"]) == 0
    assert Bundle.load(output).manifest.alignment == AlignmentHead(1, 1)
    assert "words are aligned by head 1 of decoder layer 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("2:0", "LAYER:HEAD, layers 0 to 1 and heads 0 to 1"),
        ("0:2", "LAYER:HEAD, layers 0 to 1 and heads 0 to 1"),
        ("-1:0", "LAYER:HEAD, two numbers from 0, such as 1:0"),
        ("1", "LAYER:HEAD, two numbers from 0, such as 1:0"),
        ("1:0:0", "LAYER:HEAD, two numbers from 0, such as 1:0"),
        ("", "LAYER:HEAD, two numbers from 0, such as 1:0"),
        ("1:٣", "LAYER:HEAD, two numbers from 0, such as 1:0"),
    ],
)
def test_a_head_that_is_none_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, allowed: str
) -> None:
    output = tmp_path / "m" / "1"
    assert cli.main(["export", str(tiny_checkpoint), "--output", str(output), f"--alignment={given}"]) == 1
    assert f"alignment: got {given!r}; allowed: {allowed}" in capsys.readouterr().err
    assert not output.parent.exists()
