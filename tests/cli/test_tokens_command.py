"""`dragoman tokens ...` as operators type it."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dragoman_service.cli.main import main
from dragoman_service.cli.tokens import moment
from dragoman_service.server.access.token_file import load
from dragoman_service.server.access.tokens import digest

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def run(path: Path, *arguments: str) -> int:
    """The exit status, however the command ends."""
    try:
        return main(["tokens", *arguments, "--file", str(path)])
    except SystemExit as end:
        return int(end.code or 0)


def test_create_prints_the_token_alone_and_keeps_its_hash(path: Path, capsys: Capture) -> None:
    assert run(path, "create", "shop") == 0
    printed = capsys.readouterr()
    text = printed.out.removesuffix("\n")
    assert re.fullmatch(r"dgm_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert printed.err == "dragoman: this is the only time that token shop is shown\n"
    (token,) = load(path)
    assert (token.name, token.scopes, token.models, token.expires) == ("shop", ("translate",), None, None)
    assert (token.requests_per_minute, token.characters_per_minute, token.concurrent) == (None, None, None)
    assert token.sha256 == digest(text)
    assert text.split("_")[2] not in path.read_text()
    assert abs(token.created - datetime.now(UTC)) < timedelta(minutes=10)


def test_create_takes_rights_and_quotas(path: Path) -> None:
    rights = "--scope translate --model en-de --model de-en --expires 2190-12-31"
    quotas = "--requests-per-minute 60 --characters-per-minute 100000 --concurrent 4"
    assert run(path, "create", "shop", *rights.split(), *quotas.split()) == 0
    assert run(path, "create", "boss", "--scope", "translate", "--scope", "admin") == 0
    shop, boss = load(path)
    assert (shop.models, shop.expires) == (("en-de", "de-en"), datetime(2191, 1, 1, tzinfo=UTC))
    assert (shop.requests_per_minute, shop.characters_per_minute, shop.concurrent) == (60, 100_000, 4)
    assert boss.scopes == ("translate", "admin")


def test_list_shows_everything_but_the_hash(path: Path, capsys: Capture) -> None:
    run(path, "create", "shop", "--requests-per-minute", "60", "--concurrent", "4", "--model", "en-de")
    run(path, "create", "boss", "--scope", "admin", "--expires", "2190-12-30")
    secrets = [line.split("_")[2] for line in capsys.readouterr().out.splitlines()]
    assert run(path, "list") == 0
    printed = capsys.readouterr().out
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    header, shop, boss = printed.splitlines()
    assert header.split() == ["name", "id", "scopes", "models", "quotas", "created", "expires"]
    words = [f"shop  {load(path)[0].id}", "translate", "en-de", "60 requests/min, 4 at once", today, "never"]
    assert [word for word in words if word not in shop] == []
    assert [word for word in ("boss", "admin", "all", "none", today, "2190-12-31 00:00Z") if word not in boss] == []
    hashes = [token.sha256 for token in load(path)]
    assert [secret for secret in (*secrets, *hashes) if secret in printed] == []


def test_list_marks_what_has_expired(path: Path, capsys: Capture) -> None:
    run(path, "create", "old", "--expires", "2190-12-31")
    path.write_text(path.read_text().replace("2191-01-01", "2021-01-01"))
    capsys.readouterr()
    assert run(path, "list") == 0
    assert capsys.readouterr().out.endswith("2021-01-01 00:00Z (expired)\n")


def test_revoke(path: Path, capsys: Capture) -> None:
    for name in ("shop", "other"):
        run(path, "create", name)
    capsys.readouterr()
    assert run(path, "revoke", "shop") == 0
    assert capsys.readouterr().out == "revoked shop\n"
    assert [token.name for token in load(path)] == ["other"]
    assert run(path, "revoke", "shop") == 1
    assert capsys.readouterr().err == f"dragoman: no token 'shop' in {path}; there are: other\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["create", "a b"], 1, "name: got 'a b'; allowed: 1 to 64 of the characters A-Z a-z 0-9 . _ -"),
        (["create", "there"], 1, "name: got 'there'; allowed: one that no token of "),
        (["create", "a", "--scope", "root"], 2, "invalid choice: 'root'"),
        (["create", "a", "--scope", "admin", "--model", "m"], 1, "models: got ('m',); allowed: none beside the scope"),
        (["create", "a", "--scope", "admin", "--scope", "admin"], 1, "scopes: got ('admin', 'admin')"),
        (["create", "a", "--model", "m@1"], 1, "models: got ('m@1',)"),
        (
            ["create", "a", "--requests-per-minute", "0"],
            1,
            "requests_per_minute: got 0; allowed: a whole number from 1",
        ),
        (["create", "a", "--concurrent", "-1"], 1, "concurrent: got -1"),
        (["create", "a", "--expires", "2020-01-01"], 2, "got '2020-01-01'; allowed: days such as 90d"),
    ],
)
def test_bad_arguments_change_nothing(
    path: Path, capsys: Capture, arguments: list[str], status: int, message: str
) -> None:
    run(path, "create", "there")
    before = path.read_bytes()
    capsys.readouterr()
    assert run(path, *arguments) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert path.read_bytes() == before


def test_files_that_are_not_there(path: Path, capsys: Capture) -> None:
    assert run(path, "list") == 1
    assert capsys.readouterr().err == f"dragoman: {path}: No such file or directory\n"
    assert run(path / "in" / "no" / "folder", "create", "a") == 1
    assert capsys.readouterr().out == ""


def test_a_server_says_what_is_wrong_before_it_loads_models(path: Path, capsys: Capture) -> None:
    path.write_text('{"version": 1, "tokens": [{"name": "shop"}]}')
    assert main(["serve", "no/such/model", "--tokens", str(path)]) == 1
    message = f"dragoman: {path}: token 1 ('shop'): id: got None; allowed: this field is required\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2190-12-31", "2191-01-01T00:00:00+00:00"),
        ("2190-12-31T12:00:00+01:00", "2190-12-31T11:00:00+00:00"),
        ("2190-12-31T12:00Z", "2190-12-31T12:00:00+00:00"),
    ],
)
def test_moments(text: str, expected: str) -> None:
    assert moment(text) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("text", ["90d", "90"])
def test_days(text: str) -> None:
    assert abs(moment(text) - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "d", "1h", "9999999d", "2190-13-01", "2190-12-31T12:00", "2020-01-01T00:00Z", "9999-12-31"]
)
def test_no_moments(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="allowed: days such as 90d"):
        moment(text)
