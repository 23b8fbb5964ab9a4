"""Manifests and model cards of new bundles."""

from __future__ import annotations

import dataclasses

import pytest

from dragoman_export.model_card import write_model_card
from dragoman_export.new_manifest import Facts, make_manifest
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import FILES, FORMAT_VERSION, TOKENIZER, Generation, Manifest, Origin
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec

EN_DE = Languages((("en", "de"),))
FACTS = Facts("m", "1", EN_DE, max_source_tokens=64, max_target_tokens=63)


def as_read(manifest: Manifest) -> Manifest:
    """The manifest as a server reads it, once there are files."""
    files = dict.fromkeys((*FILES, *manifest.tokenizer.files.values()), "0" * 64)
    read, problems = read_manifest(dataclasses.replace(manifest, files=files).to_json())
    assert problems == []
    assert read is not None
    return read


def test_a_model_of_our_own_has_the_defaults_of_the_server() -> None:
    manifest = as_read(make_manifest(ModelConfig(), "int8", FACTS))
    assert manifest.format_version == FORMAT_VERSION
    assert (manifest.special_ids, manifest.banned_ids) == (SpecialIds(0, 1, 2, 3), (0, 1, 3))
    assert manifest.tokenizer == TokenizerSpec("dragoman", {"model": TOKENIZER}, {})
    assert (manifest.vocab_size, manifest.source_vocab_size) == (8000, 8000)
    assert (manifest.generation, manifest.licence, manifest.origin) == (Generation(), "", None)
    assert (manifest.cache.dtype, manifest.limits.max_candidates) == ("int8", 7997)


def test_what_differs_in_other_families_is_in_the_manifest() -> None:
    config = ModelConfig(
        vocab_size=900, source_vocab_size=700, source_embedding="own", d_model=40, num_heads=2, head_size=32,
        pad_id=899, begin_id=899, end_id=0, unknown_id=1, banned_ids=(1, 899),
    )  # fmt: skip
    spec = TokenizerSpec("marian", {"source": "source.spm", "target": "target.spm"}, {})
    facts = dataclasses.replace(
        FACTS,
        tokenizer=spec,
        generation=Generation(6, 1.0, "power"),
        licence="CC-BY-4.0",
        origin=Origin("marian", {"model.bin": "f" * 64}, ()),
    )
    manifest = as_read(make_manifest(config, "fp32", facts))
    assert (manifest.special_ids, manifest.banned_ids) == (SpecialIds(899, 899, 0, 1), (1, 899))
    assert (manifest.vocab_size, manifest.source_vocab_size, manifest.limits.max_candidates) == (900, 700, 898)
    assert (manifest.cache.num_heads, manifest.cache.head_dim) == (2, 32)
    assert (manifest.tokenizer, manifest.generation) == (facts.tokenizer, facts.generation)
    assert (manifest.licence, manifest.origin) == (facts.licence, facts.origin)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [(64, 63, (64, 63)), (1000, 1000, (256, 255)), (1000, 10, (256, 10)), (5, 0, (5, 1))],
)
def test_limits_are_within_the_positions(source: int, target: int, expected: tuple[int, int]) -> None:
    facts = dataclasses.replace(FACTS, max_source_tokens=source, max_target_tokens=target)
    limits = make_manifest(ModelConfig(max_positions=256), "fp32", facts).limits
    assert (limits.max_source_tokens, limits.max_target_tokens) == expected


def test_the_card_of_a_model_of_our_own_has_no_origin() -> None:
    card = write_model_card(make_manifest(ModelConfig(), "fp32", FACTS))
    assert "- Languages: en to de\n- Licence: not known\n" in card
    assert "## Origin" not in card
    assert "- From:" not in card


def test_the_card_shows_licence_origin_and_languages() -> None:
    tags = tuple(f"{a}{b}" for a in "abcdef" for b in "abcdef")
    origin = Origin("m2m", {"a|b.bin": "f" * 64}, ("The table of positions is that of fairseq.",))
    facts = dataclasses.replace(FACTS, languages=Languages((), tags, tags), licence="MIT", origin=origin)
    card = write_model_card(make_manifest(ModelConfig(), "fp32", facts))
    assert "- Languages: 1260 pairs of 36 languages\n" in card
    assert f"- From: {', '.join(tags)}\n- Into: {', '.join(tags)}\n- Licence: MIT\n" in card
    assert "## Origin\n\nMade from a checkpoint of the family m2m, which Dragoman did not train.\n" in card
    assert "\n- The table of positions is that of fairseq.\n" in card
    assert f"| a\\|b.bin | `{'f' * 64}` |" in card
