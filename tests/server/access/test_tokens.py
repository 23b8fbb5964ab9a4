"""Tokens and their file: what is kept, what is refused, and what writers and readers see of each other."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.errors import InvalidInput
from dragoman_service.server.access import token_file
from dragoman_service.server.access.token_file import TokenFileError, change, load, parse
from dragoman_service.server.access.tokens import Token, digest, id_of, new_token
from support.tokens import entry, written

PATH = Path("tokens.json")


def test_a_token_has_256_random_bits_and_an_id() -> None:
    made = [new_token("a", scopes=("translate",)) for _ in range(200)]
    texts = {text for text, _ in made}
    assert len(texts) == 200
    for text, token in made:
        prefix, id_part, secret = text.split("_")
        assert (prefix, id_part, len(bytes.fromhex(secret))) == ("dgm", token.id, 32)
        assert id_of(text) == token.id
        assert token.sha256 == digest(text)
        assert secret not in repr(token)
    # Every hexadecimal digit of the secret takes every value.
    secrets = [text.split("_")[2] for text in texts]
    assert all(len(set(digits)) == 16 for digits in zip(*secrets, strict=True))


@pytest.mark.parametrize("text", ["", "x", "dgm_", "dgm_" + "0" * 16, f"dgm_{'0' * 16}_{'G' * 64}", "é" * 85])
def test_what_is_no_token_has_no_id(text: str) -> None:
    assert id_of(text) is None


NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
QUOTA = st.none() | st.integers(1, 10**12)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
MODELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
TOKENS = st.builds(
    Token,
    name=NAMES,
    id=HEX.map(lambda digits: digits[:16]),
    sha256=HEX,
    scopes=st.just(("translate",)),
    created=MOMENTS,
    models=st.none() | st.lists(MODELS, min_size=1, unique=True).map(tuple),
    requests_per_minute=QUOTA,
    characters_per_minute=QUOTA,
    concurrent=QUOTA,
    expires=st.none() | MOMENTS,
)


@settings(deadline=None)
@given(st.lists(TOKENS, unique_by=(lambda token: token.name, lambda token: token.id)))
def test_what_is_written_is_read(tokens: list[Token]) -> None:
    assert parse(PATH, written(*tokens)) == tuple(tokens)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
FIELDS = sorted(Token.__dataclass_fields__)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON, max_size=3))
def test_a_changed_entry_is_read_or_refused_with_the_path(changes: dict[str, Any]) -> None:
    data = json.dumps({"version": 1, "tokens": [entry() | changes]}).encode()
    problem = problem_of(data)
    if problem:
        assert problem.startswith("tokens.json: ")
    else:
        (token,) = parse(PATH, data)
        assert parse(PATH, written(token)) == (token,)


def problem_of(data: bytes) -> str:
    """What is wrong with a file of these bytes; empty: nothing."""
    try:
        parse(PATH, data)
    except TokenFileError as error:
        return str(error)
    return ""


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(TokenFileError, match=r"^tokens\.json: "):
        parse(PATH, data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "token 1 ('a b'): name: got 'a b'; allowed: 1 to 64 of the characters"),
        ({"name": "z" * 65}, "name: got 'zzz"),
        ({"name": 7}, "token 1: name: got 7"),
        ({"name": "shop\n"}, r"name: got 'shop\n'"),
        ({"id": "ABCDEF0123456789"}, "token 1 ('shop'): id: got 'ABCDEF0123456789'; allowed: 16 lower-case"),
        ({"sha256": "0" * 63}, "token 1 ('shop'): sha256: got '...'; allowed: 64 lower-case"),
        ({"scopes": []}, "scopes: got (); allowed: a list of one or more of translate, admin"),
        ({"scopes": ["root"]}, "scopes: got ('root',)"),
        ({"scopes": ["admin", "admin"]}, "scopes: got ('admin', 'admin')"),
        ({"scopes": "translate"}, "scopes: got 'translate'; allowed: a list"),
        ({"scopes": [["translate"]]}, "scopes: got (['translate'],)"),
        ({"models": []}, "models: got (); allowed: a list of names"),
        ({"models": ["en-de@4"]}, "models: got ('en-de@4',); allowed: a list of names of models without versions"),
        ({"models": {"en-de": 1}}, "models: got {'en-de': 1}; allowed: a list"),
        ({"models": None}, "models: got None; allowed: a value; leave the field out"),
        ({"models": ["m"], "scopes": ["admin"]}, "models: got ('m',); allowed: none beside the scope admin"),
        ({"requests_per_minute": 0}, "requests_per_minute: got 0; allowed: a whole number from 1"),
        ({"requests_per_minute": 1.0}, "requests_per_minute: got 1.0; allowed: a whole number"),
        ({"characters_per_minute": True}, "characters_per_minute: got True"),
        ({"characters_per_minute": 10**12 + 1}, "characters_per_minute: got 1000000000001"),
        ({"concurrent": "2"}, "concurrent: got '2'"),
        ({"concurrent": None}, "concurrent: got None; allowed: a value; leave the field out for no limit"),
        ({"expires": "2030-01-01"}, "expires: got '2030-01-01'; allowed: a moment with its time zone"),
        ({"expires": 1}, "expires: got 1; allowed: a moment"),
        ({"created": "yesterday"}, "created: got 'yesterday'; allowed: a moment"),
        ({"scope": ["admin"]}, "token 1 ('shop'): scope: got ['admin']; allowed: no such field; there are: name, id"),
    ],
)
def test_a_mistake_is_named_with_entry_and_field(changes: dict[str, Any], message: str) -> None:
    data = json.dumps({"version": 1, "tokens": [entry() | changes]}).encode()
    with pytest.raises(TokenFileError) as caught:
        parse(PATH, data)
    assert message in str(caught.value)


@pytest.mark.parametrize("missing", ["name", "id", "sha256", "scopes", "created"])
def test_a_missing_field_is_named(missing: str) -> None:
    data = json.dumps({"version": 1, "tokens": [{k: v for k, v in entry().items() if k != missing}]}).encode()
    with pytest.raises(TokenFileError, match=f"{missing}: got None; allowed: this field is required"):
        parse(PATH, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "file: got 'list'; allowed: an object"),
        ('{"tokens": []}', "version: got 'None'; allowed: 1"),
        ('{"version": true, "tokens": []}', "version: got 'True'; allowed: 1"),
        ('{"version": 2, "tokens": []}', "version: got '2'; allowed: 1"),
        ('{"version": 1}', "tokens: got 'NoneType'; allowed: a list"),
        ('{"version": 1, "tokens": [7]}', "token 1: got 'int'; allowed: an object"),
        ('{"version": 1, "tokens": [], "quota": 1}', "quota: got '...'; allowed: no such field"),
        ('{"version": 1, "tokens": [], "tokens": []}', "field 'tokens' is there twice"),
        ('{"version": NaN, "tokens": []}', "NaN is no JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(TokenFileError) as caught:
        parse(PATH, text.encode())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (entry(name="shop", id="1" * 16), "token 2: name: got 'shop'; allowed: one that token 1 does not have"),
        (entry(name="other"), "token 2: id: got '0000000000000000'; allowed: one that token 1 does not have"),
    ],
)
def test_names_and_ids_are_there_once(second: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenFileError) as caught:
        parse(PATH, json.dumps({"version": 1, "tokens": [entry(), second]}).encode())
    assert message in str(caught.value)


@pytest.mark.parametrize("field", [*FIELDS, "other", "version", "tokens"])
def test_a_token_or_hash_in_the_wrong_place_is_not_shown(field: str) -> None:
    text, token = new_token("shop", scopes=("translate",))
    for secret in (text, token.sha256):
        files = [
            {"version": 1, "tokens": [entry() | {field: [secret]}]},
            {"version": 1, "tokens": [entry() | {field: secret}]},
            {"version": 1, "tokens": [entry() | {secret: field}]},
            {"version": 1, "tokens": [], field: secret},
            {secret: 1},
        ]
        for content in files:
            problem = problem_of(json.dumps(content).encode())
            assert secret not in problem
            assert text.split("_")[2] not in problem
        problem = problem_of(f'{{"{secret}": 1, "{secret}": 2}}'.encode())
        assert "is there twice" in problem
        assert text.split("_")[2] not in problem
        assert token.sha256 not in problem


def add(path: Path, name: str) -> str:
    text, token = new_token(name, scopes=("translate",))
    change(path, lambda tokens: [*tokens, token])
    return text


def test_the_file_is_private_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    before = os.umask(0)
    try:
        text = add(path, "shop")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(it.name for it in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]
    assert text not in path.read_text()
    assert text.split("_")[2] not in path.read_text()


def test_a_change_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    add(path, "shop")
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_file.os, "fsync", no_space)
    with pytest.raises(TokenFileError, match="No space left on device"):
        add(path, "other")
    with pytest.raises(InvalidInput, match="token 2: name: got 'shop'"):
        add(path, "shop")
    assert path.read_bytes() == before
    assert sorted(it.name for it in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("{")
    with pytest.raises(TokenFileError, match="not JSON"):
        add(path, "shop")
    assert path.read_text() == "{"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    place, link = tmp_path / "real.json", tmp_path / "tokens.json"
    link.symlink_to(place)
    add(link, "shop")
    add(link, "other")
    assert link.is_symlink()
    assert [token.name for token in load(place)] == ["shop", "other"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "tokens.json"
    make(path)
    with pytest.raises(TokenFileError, match=r"not a regular file|Is a directory"):
        load(path)
    with pytest.raises(TokenFileError, match="No such file"):
        load(tmp_path / "missing")


def test_no_writer_loses_what_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    script = (
        "import sys; from pathlib import Path\n"
        "from dragoman_service.server.access.token_file import change\n"
        "from dragoman_service.server.access.tokens import new_token\n"
        "for number in range(20):\n"
        "    token = new_token(f'{sys.argv[2]}-{number}', scopes=('translate',))[1]\n"
        "    change(Path(sys.argv[1]), lambda tokens: [*tokens, token])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, path, str(number)]) for number in range(4)]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            load(path)  # never half of it
    assert [writer.returncode for writer in writers] == [0] * 4
    assert {token.name for token in load(path)} == {f"{w}-{n}" for w in range(4) for n in range(20)}


def test_moments_are_kept_in_utc() -> None:
    east = "2030-01-01T02:00:00+02:00"
    (token,) = parse(PATH, json.dumps({"version": 1, "tokens": [entry(expires=east)]}).encode())
    assert token.expires == datetime(2030, 1, 1, tzinfo=UTC)
    assert token.expires.utcoffset() == timedelta(0)
