"""Ids of glossaries, which interfaces of others have in common."""

from __future__ import annotations

import pytest

from dragoman_protos.v1 import glossaries_pb2
from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.interfaces import glossaries


def glossary(name: str, source: str = "en", target: str = "de") -> glossaries_pb2.Glossary:
    return glossaries_pb2.Glossary(name=name, source_language=source, target_language=target)


def test_ids_of_glossaries() -> None:
    several = [glossary("bank"), glossary("bank", "de", "en"), glossary("shop"), glossary("odd.en-de", "fr", "en")]
    assert [glossaries.glossary_id(it, several) for it in several] == [
        "bank.en-de", "bank.de-en", "shop", "odd.en-de",
    ]  # fmt: skip
    assert [glossaries.find(it, several) for it in ("shop", "shop.en-de", "bank.de-en", "odd.en-de")] == [
        several[2], several[2], several[1], several[3],
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match=r"one of bank\.en-de, bank\.de-en"):
        glossaries.find("bank", several)
    with pytest.raises(NotFound, match=r"no glossary 'x'; there are: bank\.en-de"):
        glossaries.find("x", several)
