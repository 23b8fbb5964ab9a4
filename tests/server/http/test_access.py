"""Who calls over HTTP: tokens, quotas, certificates, and addresses behind proxies."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.server.intake import CallMemory, Intake
from support.certificates import Authority
from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, ask, ended, head, opened
from support.server_thread import ServerThread, serving
from support.tokens import add_token

TRANSLATE = "/v1/translate"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def token(tokens: Path) -> str:
    return add_token(tokens, "shop")


@pytest.fixture
def server(tokens: Path, token: str) -> Iterator[ServerThread]:
    with serving([served(FakeWorkers())], http_port=0, tokens=tokens) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("authorization", "Bearer {}"), ("authorization", "bearer  {}"), ("authorization", "DeepL-Auth-Key {}"),
        ("x-api-key", "{}"), ("x-goog-api-key", "{}"),
    ],
)  # fmt: skip
def test_headers_that_have_tokens(server: ServerThread, token: str, name: str, form: str) -> None:
    assert ask(server.url + TRANSLATE, {"texts": ["a"]}, {name: form.format(token)}).status == 200
    refused = ask(server.url + TRANSLATE, {"texts": ["a"]}, {name: form.format(token[:-1] + "x")})
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert token not in refused.body.decode()


def test_tokens_in_bodies_and_queries(server: ServerThread, token: str) -> None:
    fields = {"q": "a", "source": "en", "target": "de"}
    url = f"{server.url}/translate"
    assert ask(url, {**fields, "api_key": token}).json == {"translatedText": "A"}
    assert ask(f"{url}?q=a&source=en&target=de&api_key={token}", b"", FORM).json == {"translatedText": "A"}
    assert ask(url, fields, {"authorization": f"Bearer {token}"}).json == {"translatedText": "A"}
    wrong = ask(url, {**fields, "api_key": "x"})
    assert (wrong.status, wrong.json) == (403, {"error": "Invalid API key"})
    assert ask(url, fields).status == 400
    assert ask(f"{server.url}/language/translate/v2?key={token}", {"q": "a", "target": "de"}).status == 200
    assert ask(f"{server.url}/v2/translate", {"text": "a", "target_lang": "de"}).status == 403
    assert server.metric("dragoman_token_requests_total", token="shop") == 4


def test_pages_need_no_token(server: ServerThread) -> None:
    assert ask(f"{server.url}/health").status == 200
    assert ask(f"{server.url}/frontend/settings").json["keyRequired"] is True
    assert ask(f"{server.url}/v1/openapi.json").status == 200


def test_without_a_token_the_body_is_not_waited_for(server: ServerThread) -> None:
    with opened(server.url) as connection:
        connection.sendall(head(TRANSLATE, "content-length: 1000") + b"\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 401 ")


def test_rights_and_quotas_of_tokens(tokens: Path) -> None:
    admin = add_token(tokens, "admin", scopes=("admin",))
    other = add_token(tokens, "other", models=("else",))
    poor = add_token(tokens, "poor", characters_per_minute=10)
    with serving([served(FakeWorkers())], http_port=0, tokens=tokens) as server:
        url = server.url + TRANSLATE
        assert ask(url, {"texts": ["a"]}, {"x-api-key": admin}).status == 403
        assert ask(url, {"texts": ["a"], "model": "loud"}, {"x-api-key": other}).status == 403
        assert ask(f"{server.url}/languages", None, {"x-api-key": other}).json == []
        assert ask(url, {"texts": ["a" * 8]}, {"x-api-key": poor}).status == 200
        refused = ask(url, {"texts": ["a" * 8]}, {"x-api-key": poor})
        assert (refused.status, refused.json["details"][0]["reason"]) == (429, "QUOTA_EXCEEDED")
        assert 30 <= int(refused.headers["retry-after"]) <= 36
        fields = {"q": "a" * 8, "source": "en", "target": "de", "api_key": poor}
        assert ask(f"{server.url}/translate", fields).json["error"].startswith("Slowdown: token poor may send")
        assert ask(url, {"texts": ["a" * 11]}, {"x-api-key": poor}).status == 400


def test_without_tokens_keys_say_nothing() -> None:
    with serving([served(FakeWorkers())], http_port=0) as server:
        fields = {"q": "a", "source": "en", "target": "de", "api_key": "anything"}
        assert ask(f"{server.url}/translate", fields, {"authorization": "Basic eDp5"}).status == 200


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of the client of each call."""
    names: list[str] = []
    admit = Intake.admit

    def noted(intake: Intake, client: str) -> CallMemory:
        names.append(client)
        return admit(intake, client)

    monkeypatch.setattr(Intake, "admit", noted)
    return names


@pytest.mark.parametrize(("header", "client"), [("", "ipv4:127.0.0.1"), ("x-forwarded-for", "192.0.2.7")])
def test_a_client_is_its_address_unless_a_proxy_is_trusted(clients: list[str], header: str, client: str) -> None:
    with serving([served(FakeWorkers())], http_port=0, client_header=header) as server:
        ask(server.url + TRANSLATE, {"texts": ["a"]}, {"x-forwarded-for": "made up, 192.0.2.7"})
    assert clients == [client]


def test_a_client_is_its_certificate(tmp_path: Path, clients: list[str]) -> None:
    authority = Authority(tmp_path)
    own, caller = authority.issue("server"), authority.issue("caller", names=("DNS:shop.example",))
    context = ssl.create_default_context(cafile=str(authority.file))
    settings = {"tls_cert": str(own.cert), "tls_key": str(own.key), "tls_client_ca": str(authority.file)}
    with serving([served(FakeWorkers())], http_port=0, **settings) as server:
        url = f"https://localhost:{server.server.http_port}"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(url + TRANSLATE, {"texts": ["a"]}, tls=context)
        context.load_cert_chain(caller.cert, caller.key)
        assert ask(url + TRANSLATE, {"texts": ["a"]}, tls=context).status == 200
    assert clients == ["certificate:shop.example"]


def test_a_header_that_is_no_number_of_bytes(server: ServerThread, token: str) -> None:
    with opened(server.url) as connection:
        connection.sendall(head(TRANSLATE, f"x-api-key: {token}", "content-length: many") + b"\r\n")
        assert ended(connection).startswith(b"HTTP/1.1 400 ")
