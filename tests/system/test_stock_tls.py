"""Clients of others over TLS, against a real server with tokens and a certificate that the test has made."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.http_calls import ask
from support.server_process import ServerProcess, server_process
from support.stock_clients import needs_clients, run_client
from support.tokens import add_token
from support.waiting import PATIENCE

MORNING = "Good morning!"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def token(tokens: Path) -> str:
    return add_token(tokens, "shop")


@pytest.fixture(scope="module")
def server(bundle: Path, authority: Authority, tokens: Path, token: str) -> Iterator[ServerProcess]:
    options = (*authority.issue().options, "--tokens", str(tokens), "--http-port", "0")
    with server_process([bundle], *options) as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: ServerProcess, authority: Authority, token: str) -> str:
    context = ssl.create_default_context(cafile=str(authority.file))
    reply = ask(f"{server.url}/v1/translate", {"texts": [MORNING]}, {"x-api-key": token}, tls=context)
    text: str = reply.json["translations"][0]["hypotheses"][0]["text"]
    return text


@needs_clients
def test_clients_of_others(server: ServerProcess, authority: Authority, token: str, expected: str) -> None:
    assert server.url.startswith("https://")
    ca = str(authority.file)
    roots = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ca, "REQUESTS_CA_BUNDLE": ca}
    found = run_client("over_tls.py", server.address, server.url, ca, token, **roots)
    for client in ("google_by_channel", "google_by_key", "google_rest", "deepl", "libretranslate"):
        assert found[client] == expected, client
    assert found["no_token"] == "Unauthenticated"
    assert found["unknown_authority"] == "SSLError"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(server: ServerProcess, authority: Authority, token: str, expected: str, version: str) -> None:
    """A server of HTTP/1.1 is asked for HTTP/2 too: they agree on the former."""
    sent = json.dumps({"text": [MORNING], "target_lang": "DE"})
    command = ["curl", "-sS", version, f"{server.url}/v2/translate", "-d", sent, "-H", "content-type: application/json"]
    command += ["-H", f"authorization: DeepL-Auth-Key {token}", "--max-time", str(PATIENCE)]
    done = subprocess.run([*command, "--cacert", str(authority.file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["translations"][0]["text"] == expected
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 60, "the authority is not one that the system knows"
