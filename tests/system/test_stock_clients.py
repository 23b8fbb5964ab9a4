"""Clients of others, unchanged, in an environment of their own, against a real server with the bundled models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman_service.client import Options, TranslationClient
from support.server_process import ServerProcess, server_process
from support.stock_clients import ROOT, needs_clients, run_client

MODELS = [ROOT / "deploy" / "models" / pair / "1" for pair in ("en-de", "de-en")]
TEXTS = ["Good morning!", "Where is the nearest station? I am late.", "Two.", ""]

pytestmark = [
    needs_clients,
    pytest.mark.skipif(not all(path.exists() for path in MODELS), reason="the bundled models are missing"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("glossaries")
    with server_process(MODELS, "--glossaries", str(folder), "--glossaries-writable") as running:
        yield running


@pytest.fixture(scope="module")
def own(server: ServerProcess) -> list[str]:
    """What dragoman.v1 answers."""
    with TranslationClient(server.address) as client:
        options = Options(source_language="en", target_language="de")
        return [translation.text for translation in client.translate(TEXTS, options)]


def run(script: str, server: ServerProcess) -> Any:
    return run_client(script, server.address, json.dumps(TEXTS))


def test_google_cloud_translate(server: ServerProcess, own: list[str]) -> None:
    found = run("google_v3.py", server)
    assert found["sync"] == found["async"] == own
    assert found["side_by_side"] == [own] * 8
    assert found["html"] == [f"<b>{own[0]}</b>"]
    assert found["detected"] == "de"
    assert found["languages"] == [["de", "German", True, True], ["en", "English", True, True]]
    name = "projects/any/locations/global/glossaries/stock"
    assert found["glossaries"] == {
        "made": name, "listed": [name], "entries": [["house", "Hütte"]], "applied": [False, True], "left": [],
        "deleted": name,
    }  # fmt: skip
    assert found["no_pair"] == ["InvalidArgument", "INVALID_INPUT"]
    assert found["no_model"] == ["NotFound", "NOT_FOUND"]
    assert found["no_texts"] == ["InvalidArgument", "INVALID_INPUT"]
    assert found["unserved"] == ["MethodNotImplemented", "UNIMPLEMENTED"]
    assert found["late"][0] == "DeadlineExceeded"
    server.wait_until_free()


def test_riva_client(server: ServerProcess, own: list[str]) -> None:
    found = run("riva_nmt.py", server)
    assert found["sync"] == found["future"] == own
    assert found["side_by_side"] == [own] * 8
    assert found["given_up"]
    assert found["language"] == "de-DE"
    assert "NIM" in found["phrases"][0]
    assert "Hütte" in found["phrases"][0]
    assert "Old House" in found["marked"][0]
    assert "dnt" not in found["marked"][0]
    assert found["short"][0]
    assert found["languages"] == {"en-de": [["en"], ["de"]], "de-en": [["de"], ["en"]]}
    for key, field in (("no_pair", "target_language"), ("no_model", "model"), ("no_number", "max_len_variation")):
        code, message = found[key]
        assert code == "INVALID_ARGUMENT"
        assert message.startswith(f"{field}: ")
    server.wait_until_free()
