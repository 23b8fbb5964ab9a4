"""Who may call: the metadata of a call against a file that changes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from dragoman_service.errors import (
    Cancelled,
    DeadlineUnreachable,
    DragomanError,
    Forbidden,
    InvalidInput,
    Overloaded,
    QuotaExceeded,
    ShuttingDown,
    Unauthenticated,
)
from dragoman_service.server.access.gate import Caller, Gate
from dragoman_service.server.access.quotas import LocalQuotas
from dragoman_service.server.access.token_file import TokenFileError
from dragoman_service.server.access.warnings import warn_of_plain_text
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServerSettings
from support.tokens import add_token, bearer, revoke_token


class Call:
    """The context of a call with this metadata."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


class World:
    """A gate on a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.json"
        self.now = time.time()
        self.metrics = Metrics(CollectorRegistry())
        self.shop = add_token(self.path, "shop")
        self.reopen()

    def reopen(self) -> None:
        self.gate = Gate(self.path, self.metrics, LocalQuotas(), now=lambda: self.now)

    def add(self, name: str, **rights: Any) -> str:
        text = add_token(self.path, name, **rights)
        self.look()
        return text

    def look(self) -> None:
        asyncio.run(self.gate.look())

    def caller(self, token: str) -> Caller:
        return self.gate.caller(Call(*bearer(token)))  # type: ignore[arg-type]

    def refusal(self, *metadata: tuple[str, str | bytes]) -> str:
        with pytest.raises(Unauthenticated) as caught:
            self.gate.caller(Call(*metadata))  # type: ignore[arg-type]
        return str(caught.value)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    async def call(self, caller: Caller, characters: int, error: BaseException | None = None) -> None:
        async with caller.admitted(characters):
            if error is not None:
                raise error


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_token_says_whose_call_it_is(world: World) -> None:
    other = world.add("other")
    assert world.caller(world.shop).name == "shop"
    assert world.caller(other).name == "other"
    for scheme in ("bearer", "BEARER", "Bearer  "):
        assert world.gate.caller(Call(("authorization", f"{scheme} {other}"))).name == "other"  # type: ignore[arg-type]


def test_calls_without_a_good_token(world: World) -> None:
    shop = world.shop
    unknown = "the token is unknown, or was revoked"
    form = "metadata `authorization` has another form; allowed: `Bearer TOKEN`"
    assert world.refusal() == "no token; allowed: metadata `authorization: Bearer TOKEN`"
    assert world.refusal(("x-authorization", f"Bearer {shop}")).startswith("no token")
    assert world.refusal(("authorization", shop)) == form
    assert world.refusal(("authorization", "")) == form
    assert world.refusal(("authorization", f"Basic {shop}")) == form
    assert world.refusal(("authorization", f"Bearer {shop} ")) == form
    assert world.refusal(("authorization", f"Bearer {shop}".encode())) == form
    assert world.refusal(("authorization", "Bearer " + "a" * 10_000)) == form
    assert world.refusal(*bearer("x")) == unknown
    assert world.refusal(*bearer(shop[:-1])) == unknown
    assert world.refusal(*bearer(shop[:-1] + ("0" if shop[-1] != "0" else "1"))) == unknown
    assert world.refusal(*bearer(shop.upper())) == unknown
    assert world.refusal(*bearer(shop[:4] + "0" * 16 + shop[20:])) == unknown
    assert world.refusal(*bearer(world.caller(shop).token.sha256)) == unknown
    assert world.refusal(*bearer(shop), *bearer("x")) == "2 different entries `authorization`; allowed: one"
    both = world.refusal(*bearer(shop), ("x-goog-api-key", shop))
    assert both == "2 different entries `authorization` and `x-goog-api-key`; allowed: one"
    assert world.refusal(("x-goog-api-key", f"{shop} ")) == (
        "metadata `x-goog-api-key` has another form; allowed: `TOKEN`"
    )


def test_the_same_entry_twice_is_one_and_an_api_key_is_a_token(world: World) -> None:
    for entries in (bearer(world.shop) * 2, (("x-goog-api-key", world.shop),)):
        assert world.gate.caller(Call(*entries)).name == "shop"  # type: ignore[arg-type]


@settings(deadline=None, max_examples=500)
@given(data=st.data())
def test_any_metadata_is_refused_without_showing_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    world = shared(tmp_path_factory)
    shop = world.shop
    near = st.sampled_from([f"Bearer {shop}", shop, "Bearer ", "bearer", "\0", "\n", "é", "Bearer " + shop[:-1]])
    values = st.one_of(
        st.text(), st.binary(), st.lists(near, max_size=4).map("".join), st.text(min_size=1).map(lambda t: shop + t)
    )
    entries = data.draw(st.lists(st.tuples(st.sampled_from(["authorization", "x"]), values), max_size=3))
    mine = {value for key, value in entries if key == "authorization"}
    (value,) = mine if len(mine) == 1 else [None]
    if isinstance(value, str) and re.fullmatch(f"[Bb]earer +{shop}", value):
        assert world.gate.caller(Call(*entries)).name == "shop"  # type: ignore[arg-type]
    else:
        assert shop[21:-1] not in world.refusal(*entries)


_worlds: list[World] = []


def shared(factory: pytest.TempPathFactory) -> World:
    """One world for all examples."""
    if not _worlds:
        _worlds.append(World(factory.mktemp("tokens")))
    return _worlds[0]


def test_hashes_are_compared_in_constant_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(first: str, second: str) -> bool:
        compared.append((first, second))
        return hmac_compare(first, second)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    kept = world.caller(world.shop).token.sha256
    assert compared == [(kept, kept)]
    compared.clear()
    world.refusal(*bearer(world.shop[:-4] + "0000"))
    world.refusal(*bearer(world.shop[:4] + "0" * 16 + world.shop[20:]))
    world.refusal(*bearer("nothing"))
    assert [second for _, second in compared] == [kept, "0" * 64, "0" * 64]


def test_tokens_expire_by_the_wall_clock(world: World) -> None:
    end = datetime.fromtimestamp(world.now, UTC).replace(microsecond=0) + timedelta(hours=1)
    text = world.add("short", expires=end)
    world.now = end.timestamp() - 0.001
    assert world.caller(text).name == "short"
    world.now = end.timestamp()
    assert world.refusal(*bearer(text)) == f"token short expired at {end:%Y-%m-%d %H:%M:%S} UTC"
    assert world.refusal(*bearer(text[:-4] + "0000")) == "the token is unknown, or was revoked"
    world.now -= 3600
    assert world.caller(text).name == "short"


def test_scopes_and_models(world: World) -> None:
    caller = world.caller(world.add("narrow", models=("en-de", "de-en")))
    caller.check_scope("translate")
    with pytest.raises(Forbidden, match="token narrow has no scope admin"):
        caller.check_scope("admin")
    for selector in ("", "en-de", "en-de@4", "de-en@stable"):
        caller.check_model(selector)
    for selector in ("en", "en-de-x", "EN-DE", "@4", "x@en-de"):
        with pytest.raises(Forbidden, match=r"token narrow may not use model .*; it may use: de-en, en-de"):
            caller.check_model(selector)
    world.caller(world.shop).check_model("anything")


def test_the_file_is_followed(world: World) -> None:
    other = world.add("other")
    revoke_token(world.path, "shop")
    assert world.caller(world.shop).name == "shop"  # not looked yet
    world.look()
    assert "unknown, or was revoked" in world.refusal(*bearer(world.shop))
    assert world.caller(other).name == "other"


def test_the_file_is_followed_through_links(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: a link to a file in a folder that is a link, which is replaced."""
    texts = []
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        texts.append(add_token(tmp_path / version / "tokens.json", version))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "tokens.json").symlink_to("..data/tokens.json")
    gate = Gate(tmp_path / "tokens.json", Metrics(CollectorRegistry()), LocalQuotas())
    assert gate.caller(Call(*bearer(texts[0]))).name == "v1"  # type: ignore[arg-type]
    for _ in range(5):
        asyncio.run(gate.look())  # those after the first change read the file in any case
    (tmp_path / "new").symlink_to("v2")
    os.replace(tmp_path / "new", tmp_path / "..data")
    asyncio.run(gate.look())
    assert gate.caller(Call(*bearer(texts[1]))).name == "v2"  # type: ignore[arg-type]
    with pytest.raises(Unauthenticated):
        gate.caller(Call(*bearer(texts[0])))  # type: ignore[arg-type]


def test_a_second_change_within_the_resolution_of_time_is_seen(world: World, tmp_path: Path) -> None:
    """A file system whose times are coarse, and a writer that does not replace the file."""
    other = tmp_path / "other.json"
    text = add_token(other, "four")
    assert len(other.read_bytes()) == len(world.path.read_bytes())
    world.look()
    before = world.gate._seen
    world.path.write_bytes(other.read_bytes())
    world.gate._seen = before  # as if nothing had changed
    signature = "dragoman_service.server.access.gate._signature"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signature, lambda path: before)
        world.look()
    assert world.caller(text).name == "four"


@pytest.mark.parametrize("damage", ["cut", "gone", "folder", "field"])
def test_a_damaged_file_keeps_the_tokens_and_is_reported_once(
    world: World, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = world.path.read_bytes()
    assert world.metric("dragoman_token_file_damaged") == 0
    world.path.unlink()
    if damage == "cut":
        world.path.write_bytes(good[:-20])
    elif damage == "folder":
        world.path.mkdir()
    elif damage == "field":
        world.path.write_bytes(good.replace(b"scopes", b"scope"))
    for _ in range(10):
        world.look()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"the tokens stay as they were: {world.path}: ")
    assert world.metric("dragoman_token_file_damaged") == 1
    assert world.caller(world.shop).name == "shop"
    world.path.rmdir() if damage == "folder" else world.path.unlink(missing_ok=True)
    world.path.write_bytes(good)
    world.look()
    assert world.metric("dragoman_token_file_damaged") == 0
    assert caplog.records[-1].getMessage() == f"{world.path} can be read again"
    text = world.add("new")
    assert world.caller(text).name == "new"


def test_a_server_needs_a_good_file_at_the_start(world: World) -> None:
    world.path.write_text("{")
    with pytest.raises(TokenFileError, match="not JSON"):
        world.reopen()


def test_series_are_those_of_the_tokens(world: World) -> None:
    for name in ("requests", "characters", "quota_refusals"):
        assert world.metric(f"dragoman_token_{name}_total", token="shop") == 0
    shop = world.caller(world.shop)
    world.add("other")
    asyncio.run(world.call(shop, 5))
    assert world.metric("dragoman_token_requests_total", token="shop") == 1
    assert world.metric("dragoman_token_characters_total", token="shop") == 5
    revoke_token(world.path, "shop")
    world.look()
    asyncio.run(world.call(shop, 5))  # one that ran while the token was revoked
    for name in ("requests", "characters", "quota_refusals"):
        assert world.metric(f"dragoman_token_{name}_total", token="shop") is None
        assert world.metric(f"dragoman_token_{name}_total", token="other") == 0
    page = generate_latest(world.metrics.registry).decode()
    assert world.shop[21:] not in page
    assert shop.token.sha256 not in page


def test_counts_outlast_other_changes_of_the_file(world: World) -> None:
    asyncio.run(world.call(world.caller(world.shop), 5))
    world.add("other")
    asyncio.run(world.call(world.caller(world.shop), 5))
    assert world.metric("dragoman_token_requests_total", token="shop") == 2


def test_quotas_outlast_other_changes_of_the_file(world: World) -> None:
    text = world.add("two", requests_per_minute=2)
    asyncio.run(world.call(world.caller(text), 5))
    world.add("other")
    asyncio.run(world.call(world.caller(text), 5))
    with pytest.raises(QuotaExceeded):
        asyncio.run(world.call(world.caller(text), 5))
    assert world.metric("dragoman_token_quota_refusals_total", token="two") == 1
    assert world.metric("dragoman_token_requests_total", token="two") == 2


def after_work(error: DragomanError) -> DragomanError:
    error.after_work = True
    return error


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (Overloaded("full"), False),
        (DeadlineUnreachable("late"), False),
        (ShuttingDown("bye"), False),
        (after_work(Overloaded("full")), True),
        (after_work(DeadlineUnreachable("late")), True),
        (InvalidInput("texts", 0, "1"), True),
        (Cancelled("left"), True),
        (asyncio.CancelledError(), True),
        (ValueError("bug"), True),
    ],
)
def test_what_the_server_refuses_before_any_work_is_given_back(
    world: World, error: BaseException, counts: bool
) -> None:
    caller = world.caller(world.add("one", requests_per_minute=1, concurrent=1))

    async def twice() -> None:
        with pytest.raises(type(error)):
            await world.call(caller, 3, error)
        if counts:
            with pytest.raises(QuotaExceeded, match="1 requests a minute"):
                await world.call(caller, 3)
        else:
            await world.call(caller, 3)

    asyncio.run(twice())
    assert world.metric("dragoman_token_requests_total", token="one") == 1
    assert world.metric("dragoman_token_characters_total", token="one") == 3


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, ["--host 0.0.0.0"]),
        ({"host": "::"}, ["--host ::"]),
        ({"host": "translate.example"}, ["--host translate.example"]),
        ({"host": "127.0.0.1", "admin": "10.0.0.1:50052"}, ["--admin 10.0.0.1"]),
        ({"host": "127.0.0.2", "admin": "[::1]:50052"}, []),
        ({"host": "localhost", "admin": "unix:/run/admin.sock"}, []),
        ({"host": "0.0.0.0", "tokens": None}, []),
        ({"host": "0.0.0.0", "admin": "10.0.0.1:50052", "tls_cert": "a.pem", "tls_key": "b.pem"}, []),
    ],
)
def test_tokens_in_plain_text_are_warned_of(
    settings: dict[str, Any], warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_plain_text(ServerSettings(**{"tokens": Path("tokens.json"), **settings}))
    assert [record.getMessage().split(": tokens are")[0] for record in caplog.records] == warned
