"""Translations are scored by a real server as the model in PyTorch scores them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import torch

from dragoman_export.read_back import read_model
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.errors import InvalidRequest
from dragoman_service.client.values import Options
from faults.wire import SERVICE, send
from support.server_process import ServerProcess, server_process
from support.tiny import sentences

WITH_TOKENS = Options(model="tiny", return_tokens=True)


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[ServerProcess]:
    with server_process([tiny_bundle.path], "--max-rows", "16", "--max-call-work", "5000") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[TranslationClient]:
    with TranslationClient(server.address) as connection:
        yield connection


def log_probabilities(bundle: Bundle, text: str, translation: str) -> list[float]:
    """Of each token and of the end, with the special tokens that the graphs ban left out of the softmax."""
    tokenizer, model = bundle.tokenizer, read_model(Path(bundle.path), bundle.manifest.architecture)
    source, target = tokenizer.source(tokenizer.encode(text), "en", "de"), tokenizer.encode_target(translation)
    with torch.inference_mode():
        logits = model(torch.tensor([source]), torch.tensor([[model.config.begin_id, *target]]))[0]
        banned = torch.zeros(logits.shape[-1]).index_fill(0, torch.tensor(bundle.manifest.banned_ids), -torch.inf)
        found = (logits + banned).log_softmax(-1)
    return [float(row[token]) for row, token in zip(found, [*target, tokenizer.end_id], strict=True)]


def test_scores_are_those_of_the_model(client: TranslationClient, tiny_bundle: Bundle) -> None:
    texts, translations = sentences(12, seed=1), sentences(12, seed=2)
    for text, translation, score in zip(
        texts, translations, client.score(texts, translations, WITH_TOKENS), strict=True
    ):
        expected = log_probabilities(tiny_bundle, text, translation)
        assert [*score.token_scores, score.end_score] == pytest.approx(expected, abs=1e-3)
        assert score.log_probability == pytest.approx(sum(expected), abs=1e-2)
        assert "".join(score.tokens).replace("▁", " ").strip() == translation
        assert score.model == "tiny@1"
        assert score.score == pytest.approx(sum(expected) / ((5 + len(expected)) / 6) ** 1.4, abs=1e-2)


def test_the_end_of_the_longest_translation_is_scored(client: TranslationClient, tiny_bundle: Bundle) -> None:
    word, longest = "the ", tiny_bundle.manifest.limits.max_target_tokens - 1
    translation = word * (longest // len(tiny_bundle.tokenizer.encode_target(word)))
    (score,) = client.score(["a cat"], [translation], WITH_TOKENS)
    assert len(score.tokens) == longest
    assert score.end_score == pytest.approx(log_probabilities(tiny_bundle, "a cat", translation)[-1], abs=1e-3)


def test_the_same_from_asyncio_and_beside_translations(server: ServerProcess, client: TranslationClient) -> None:
    texts, translations = sentences(12, seed=1), sentences(12, seed=2)
    expected = client.score(texts, translations)

    async def both() -> None:
        async with AsyncTranslationClient(server.address) as connection:
            crowd = [connection.translate([text], Options(max_length=30)) for text in texts * 3]
            *_, found = await asyncio.gather(*crowd, connection.score(texts, translations))
            assert found == expected

    asyncio.run(both())


@pytest.mark.parametrize(
    ("texts", "translations", "message"),
    [
        (["a", "b"], ["a"], "translations: got '1 of them'; allowed: 2"),
        ([], [], r"texts: got '0 texts'; allowed: 1 to 1024"),
        (["a"], [""], r"translations\[0\]"),
        (["a", "\n"], ["a", "b"], r"texts\[1\]"),
        (["a"], ["The cat. " * 200], r"translations\[0\]: got '\d+ tokens'; allowed: at most \d+"),
        (["a", "The cat. " * 200], ["a", "b"], r"texts\[1\]: got '\d+ tokens'; allowed: at most \d+"),
        (["a"], ["a" * 100_000], r"translations\[0\]: got '100000 characters'; allowed: at most 5056"),
        (["a" * 6_000], ["a"], r"texts\[0\]: got '6000 characters'; allowed: at most 5120"),
        (["The cat sees a dog."] * 900, ["a"] * 900, "texts: got '.* source tokens, each 1 times'; allowed: 5000"),
    ],
)
def test_refusals_name_the_pair(
    client: TranslationClient, texts: list[str], translations: list[str], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.score(texts, translations)


def test_the_number_of_translations_is_limited_before_they_are_read(server: ServerProcess) -> None:
    data = pb.ScoreRequest(texts=["a"], translations=["a"] * 1025).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        (reply,) = send(channel, SERVICE + "Score", [data])
    assert reply.fields == ("translations",)
