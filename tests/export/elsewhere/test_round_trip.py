"""A folder of another program has the model that it was written from: our own importer reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman_export.elsewhere.own import read_own
from dragoman_export.elsewhere.write import write_elsewhere
from dragoman_export.imports.architecture import NEVER
from dragoman_export.imports.formats.ct2 import read_ct2
from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.cli import main as cli
from support.elsewhere_models import CLASSES, CT2_ALONE, SEVERAL, SWITCHES, checkpoint, log_probabilities
from support.parity import shipped_bundle
from support.tiny import sentences

FROM_ENGLISH = ImportOptions(sources=("en",))
TO_GERMAN = ImportOptions(sources=("en",), targets=("de",))
TEXTS = [*sentences(20), "Grüße, 日本語! <s> x", "<2de> >>de<<", "a  b\tc"]


def written(tmp_path: Path, switches: dict[str, Any], to: str, precision: str = "fp32", **more: Any) -> Imported:
    path = checkpoint(tmp_path / "checkpoint", switches, **more)
    write_elsewhere(path, to, tmp_path / to, precision)
    return read_checkpoint(tmp_path / to, FROM_ENGLISH if more else TO_GERMAN)


def assert_same_parameters(ours: Transformer, theirs: Transformer) -> None:
    state, found = ours.state_dict(), theirs.state_dict()
    for stack in ("encoder", "decoder"):
        torch.testing.assert_close(theirs.position_table(stack), ours.position_table(stack), rtol=0, atol=0)
    bias = state.pop("output_bias")
    bias[list(ours.config.banned_ids)] = NEVER
    torch.testing.assert_close(found["output_bias"], bias, rtol=0, atol=0)
    for name, tensor in state.items():
        if "positions" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("name", [*SWITCHES, *CT2_ALONE])
def test_a_folder_of_ctranslate2_has_the_same_model(name: str, tmp_path: Path) -> None:
    theirs = written(tmp_path, {**SWITCHES, **CT2_ALONE}[name], "ctranslate2").model()
    ours = read_own(tmp_path / "checkpoint").model
    torch.testing.assert_close(log_probabilities(theirs), log_probabilities(ours), rtol=0, atol=1e-5)
    assert_same_parameters(ours, theirs)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_folder_of_hugging_face_has_the_same_model(name: str, tmp_path: Path) -> None:
    theirs = written(tmp_path, SWITCHES[name], "hf").model()
    ours = read_own(tmp_path / "checkpoint").model
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == CLASSES[name]
    torch.testing.assert_close(log_probabilities(theirs), log_probabilities(ours), rtol=0, atol=1e-5)
    assert_same_parameters(ours, theirs)
    assert (theirs.config.begin_id, theirs.config.end_id, theirs.config.pad_id) == (1, 2, 0)
    assert theirs.config.banned_ids == ours.config.banned_ids


def tokenizer_of(imported: Imported) -> Any:
    made = BundleTokenizer(imported)

    def read(name: str) -> bytes:
        contents = made.files[name]
        return contents if isinstance(contents, bytes) else contents.read_bytes()

    return made, load_tokenizer(made.spec, read)


@pytest.mark.parametrize("to", ["ctranslate2", "hf"])
def test_texts_have_the_same_ids(to: str, tmp_path: Path) -> None:
    _, theirs = tokenizer_of(written(tmp_path, SWITCHES["pre"], to))
    ours = Tokenizer(read_own(tmp_path / "checkpoint").tokenizer_model)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs.encode(text) == ids
        assert theirs.source(ids, "en", "de") == ours.source(ids, "en", "de")
        assert theirs.decode(ids) == ours.decode(ids)
    for name in ("pad_id", "begin_id", "end_id", "unknown_id"):
        assert getattr(theirs, name) == getattr(ours, name)


@pytest.mark.parametrize("to", ["ctranslate2", "hf"])
def test_the_tag_of_the_target_language_is_kept(to: str, tmp_path: Path) -> None:
    imported = written(tmp_path, {}, to, pairs=SEVERAL)
    made, theirs = tokenizer_of(imported)
    own = read_own(tmp_path / "checkpoint")
    ours = Tokenizer(own.tokenizer_model)
    assert sorted(made.languages.all_pairs()) == sorted(SEVERAL)
    for target in ("de", "fr"):
        ids = ours.encode("the cat sees")
        assert theirs.source(ids, "en", target) == ours.source(ids, "en", target)
    assert set(own.target_tags.values()) <= set(imported.config.banned_ids)


@pytest.mark.parametrize("to", ["ctranslate2", "hf"])
def test_what_comes_back_translates_as_what_left(to: str, tmp_path: Path) -> None:
    """From the command line out and in, to bundles whose golden sentences have the same ids and scores."""
    path = checkpoint(tmp_path / "checkpoint", SWITCHES["pre"])
    outputs = [str(tmp_path / "m" / version) for version in "12"]
    assert cli.main(["export", str(path), "--output", outputs[0]]) == 0
    assert cli.main(["export", str(path), "--to", to, "--output", str(tmp_path / "out")]) == 0
    languages = ["--source", "en", "--target", "de"]
    assert cli.main(["import", str(tmp_path / "out"), "--output", outputs[1], *languages]) == 0
    left, back = ({it.source: it for it in Bundle.load(Path(output)).golden if it.beam_size == 1} for output in outputs)
    both = [it for it in left.keys() & back.keys() if left[it].max_length == back[it].max_length]
    assert len(both) > 1
    for source in both:
        assert back[source].source_ids == left[source].source_ids
        assert back[source].target_ids == left[source].target_ids
        assert back[source].token_scores == pytest.approx(left[source].token_scores, abs=1e-4)


@pytest.mark.parametrize("to", ["ctranslate2", "hf"])
@pytest.mark.parametrize("licence", ["cc-by-sa-4.0", 'Ours: "free" # of charge'])
def test_the_licence_comes_back(to: str, licence: str, tmp_path: Path) -> None:
    path, bundle = checkpoint(tmp_path / "checkpoint", SWITCHES["pre"]), tmp_path / "m" / "1"
    assert cli.main(["export", str(path), "--output", str(bundle), "--licence", licence]) == 0
    assert Bundle.load(bundle).manifest.licence == licence
    for source, options in ((bundle, []), (path, ["--licence", licence]), (bundle, ["--licence", "mit"])):
        output = str(tmp_path / "out")
        assert cli.main(["export", str(source), "--to", to, "--output", output, "--force", *options]) == 0
        assert read_checkpoint(tmp_path / "out", TO_GERMAN).licence == (options[1:] or [licence])[0]
    assert (tmp_path / "out" / "README.md").read_text().endswith((bundle / "MODEL_CARD.md").read_text())


def test_int8_is_rounded_to_half_a_step_and_fp16_to_half_precision(tmp_path: Path) -> None:
    imported = written(tmp_path, SWITCHES["post-separate"], "ctranslate2", "int8")
    state = read_own(tmp_path / "checkpoint").model.state_dict()
    stored = read_ct2(tmp_path / "ctranslate2" / "model.bin")
    assert not any(name.endswith("_scale") for name in stored.tensors)
    for name, tensor in imported.tensors.items():
        if tensor.read().ndim == 2 and "positions" not in name:
            right = state[name].numpy()
            step = np.abs(right).max(axis=1, keepdims=True) / 127
            error = np.abs(tensor.read() - right)
            assert (error <= 0.51 * step).all(), name
            assert error.max() > 0
    write_elsewhere(tmp_path / "checkpoint", "ctranslate2", tmp_path / "half", "fp16")
    half = read_checkpoint(tmp_path / "half", TO_GERMAN).tensors["embedding.weight"].read()
    np.testing.assert_array_equal(half, state["embedding.weight"].half().float().numpy())


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    for name in ("pre", "pre-separate"):
        path = checkpoint(tmp_path / name, {**SWITCHES, **CT2_ALONE}[name])
        write_elsewhere(path, "ctranslate2", tmp_path / f"{name}-ct2")
    sizes = {name: (tmp_path / f"{name}-ct2" / "model.bin").stat().st_size for name in ("pre", "pre-separate")}
    words = read_own(tmp_path / "pre").config.vocab_size
    assert sizes["pre-separate"] - sizes["pre"] == pytest.approx(2 * 4 * 32 * words, rel=0.01)


def test_a_bundle_becomes_the_model_of_its_weights(tmp_path: Path) -> None:
    bundle = Bundle.load(shipped_bundle())
    notes = write_elsewhere(bundle.path, "hf", tmp_path / "hf")
    assert any("rounded to 8 bits" in it for it in notes)
    licence = '---\nlicense: "CC-BY-SA-4.0"\n---\n\n'
    assert (tmp_path / "hf" / "README.md").read_text() == licence + (bundle.path / "MODEL_CARD.md").read_text()
    imported = read_checkpoint(tmp_path / "hf")
    assert (imported.languages.sources, imported.languages.targets) == (("en",), ("de",))
    assert_same_parameters(read_own(bundle.path).model, imported.model())
