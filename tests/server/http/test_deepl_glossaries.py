"""DeepL's glossaries, v2 and v3, over a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.bundle.languages import Languages
from support.fake_workers import FakeWorkers, served
from support.http_calls import Reply, ask
from support.server_thread import ServerThread, serving

LANGUAGES = Languages((("en", "de"), ("de", "en"), ("en", "pt-BR")))
NEW = {"name": "My glossary", "source_lang": "EN", "target_lang": "DE", "entries_format": "tsv", "entries": "a\tb\n"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerThread]:
    models = [served(FakeWorkers(), languages=LANGUAGES)]
    with serving(models, http_port=0, glossaries=tmp_path, glossaries_writable=True) as running:
        yield running


def v2(server: ServerThread, path: str = "", content: object = None, verb: str = "") -> Reply:
    return ask(f"{server.url}/v2/glossaries{path}", content, verb=verb)


def v3(server: ServerThread, path: str = "", content: object = None, verb: str = "") -> Reply:
    return ask(f"{server.url}/v3/glossaries{path}", content, verb=verb)


def translated(server: ServerThread, text: str, glossary: object, **fields: object) -> Any:
    sent = {"text": [text], "source_lang": "EN", "target_lang": "DE", "glossary_id": glossary, **fields}
    reply = ask(f"{server.url}/v2/translate", sent)
    assert reply.status == 200, reply
    return reply.json["translations"][0]["text"]


def test_a_glossary_of_one_pair_is_made_used_and_deleted(server: ServerThread, tmp_path: Path) -> None:
    entries = "one\teins\nUS\tVereinigte Staaten\nus\tuns\n"
    reply = v2(server, "", {**NEW, "entries": entries})
    assert reply.status == 201
    made = reply.json
    named = made["glossary_id"]
    assert made == {
        "glossary_id": named, "name": "My glossary", "ready": True, "source_lang": "en", "target_lang": "de",
        "creation_time": made["creation_time"], "entry_count": 3,
    }  # fmt: skip
    (file,) = tmp_path.iterdir()
    written = "# My glossary\none\teins\nUS\tVereinigte Staaten\tcase\nus\tuns\tcase\n"
    assert (file.name, file.read_text()) == (f"{named}.en-de.tsv", written)
    assert v2(server, f"/{named}").json == made
    assert v2(server).json == {"glossaries": [made]}
    shown = v2(server, f"/{named}/entries")
    assert shown.headers["content-type"].startswith("text/tab-separated-values")
    assert shown.body.decode() == entries.strip()
    assert translated(server, "One of us in the US.", named) == "eins OF uns IN THE Vereinigte Staaten."
    assert translated(server, "One.", None, glossary_ids=[named]) == "eins."
    deleted = v2(server, f"/{named}", verb="DELETE")
    assert (deleted.status, deleted.body) == (204, b"")
    assert "content-length" not in deleted.headers
    assert v2(server, f"/{named}").status == 404
    assert not list(tmp_path.iterdir())


def test_entries_may_be_csv(server: ServerThread) -> None:
    made = v2(server, "", {**NEW, "entries_format": "csv", "entries": 'a,"b, c"\r\n\r\nd,"e ""f""",en,de\r\n'}).json
    assert v2(server, f"/{made['glossary_id']}/entries").body.decode() == 'a\tb, c\nd\te "f"'


def test_files_of_the_operator_are_glossaries_too(server: ServerThread, tmp_path: Path) -> None:
    (tmp_path / "bank.en-de.tsv").write_text("one\teins\n")
    (tmp_path / "bank.de-en.tsv").write_text("# Of the bank\neins\tone\n")
    assert [(it["glossary_id"], it["name"]) for it in v2(server).json["glossaries"]] == [
        ("bank.de-en", "Of the bank"), ("bank.en-de", "bank"),
    ]  # fmt: skip
    assert v2(server, "/bank.en-de/entries").body == b"one\teins"
    assert v2(server, "/bank").status == 400, "it may be either"
    assert translated(server, "One.", "bank.en-de") == translated(server, "One.", "bank") == "eins."
    (both,) = v3(server).json["glossaries"]
    assert (both["glossary_id"], both["name"], len(both["dictionaries"])) == ("bank", "Of the bank", 2)


def test_a_glossary_of_several_pairs(server: ServerThread, tmp_path: Path) -> None:
    dictionaries = [
        {"source_lang": "EN", "target_lang": "DE", "entries": "one\teins", "entries_format": "tsv"},
        {"source_lang": "en", "target_lang": "pt", "entries": "one,um", "entries_format": "csv"},
    ]
    reply = v3(server, "", {"name": "Both", "dictionaries": dictionaries})
    assert reply.status == 201
    made = reply.json
    path = f"/{made['glossary_id']}"
    assert made["dictionaries"] == [
        {"source_lang": "en", "target_lang": "de", "entry_count": 1},
        {"source_lang": "en", "target_lang": "pt", "entry_count": 1},
    ]
    assert translated(server, "One.", made["glossary_id"], target_lang="PT-BR") == "um."

    more = {"source_lang": "EN", "target_lang": "DE", "entries": "one\teine\ntwo\tzwei", "entries_format": "tsv"}
    changed = v3(server, path, {"name": "Renamed", "dictionaries": [more]}, "PATCH").json
    assert (changed["name"], changed["dictionaries"][0]["entry_count"]) == ("Renamed", 2)
    found = v3(server, f"{path}/entries?source_lang=EN&target_lang=DE").json
    assert found == {
        "dictionaries": [
            {"source_lang": "en", "target_lang": "de", "entries": "one\teine\ntwo\tzwei", "entries_format": "tsv"}
        ]
    }
    other = {"source_lang": "de", "target_lang": "en", "entries": "eins\tone", "entries_format": "tsv"}
    put = v3(server, f"{path}/dictionaries", other, "PUT").json
    assert put == {"source_lang": "de", "target_lang": "en", "entry_count": 1}
    put = v3(server, f"{path}/dictionaries", {**more, "entries": "three\tdrei"}, "PUT").json
    assert put == {"source_lang": "en", "target_lang": "de", "entry_count": 1}
    assert v3(server, f"{path}/dictionaries?source_lang=en&target_lang=pt", verb="DELETE").status == 204
    left = v3(server, path).json
    assert sorted(it["target_lang"] for it in left["dictionaries"]) == ["de", "en"]
    assert {it["name"] for it in v2(server).json["glossaries"]} == {"Renamed"}
    assert v3(server, path, verb="DELETE").status == 204
    assert not list(tmp_path.iterdir())


def test_a_glossary_is_made_with_all_of_its_dictionaries_or_none(server: ServerThread, tmp_path: Path) -> None:
    good = {name: it for name, it in NEW.items() if name != "name"}
    reply = v3(server, "", {"name": "x", "dictionaries": [good, {**good, "target_lang": "XX"}]})
    assert reply.status == 400
    assert reply.json["message"].startswith("dictionaries[1].target_lang: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"source_lang": None}, "source_lang"),
        ({"target_lang": 5}, "target_lang"),
        ({"target_lang": "FR"}, "target_lang"),
        ({"entries": ""}, "entries"),
        ({"entries": "a b"}, "entries"),
        ({"entries": "a\tb\tc"}, "entries"),
        ({"entries": "a\tb\na\tc"}, "entries[1].source"),
        ({"entries": "\tb"}, "entries[0].source"),
        ({"entries": "#a\tb"}, "entries[0].source"),
        ({"entries_format": "xml"}, "entries_format"),
        ({"entries_format": "csv", "entries": 'a,"b'}, "entries"),
        ({"entries_format": "csv", "entries": "a,b,c"}, "entries"),
    ],
)
def test_errors(server: ServerThread, tmp_path: Path, change: dict[str, object], field: str) -> None:
    single = v2(server, "", {**NEW, **change})
    assert single.status == 400
    assert single.json["message"].startswith(f"{field}: ")
    if field != "name":
        dictionary = {name: it for name, it in {**NEW, **change}.items() if name != "name"}
        several = v3(server, "", {"name": "x", "dictionaries": [dictionary]})
        assert several.status == 400
        assert several.json["message"].startswith(f"dictionaries[0].{field}: ")
    assert not list(tmp_path.iterdir())


def test_what_is_not_there(server: ServerThread) -> None:
    assert v2(server, "/none").json["message"] == "no glossary 'none'; there are: none"
    made = v2(server, "", NEW).json["glossary_id"]
    for path, verb in (
        ("/none", ""), ("/none", "DELETE"), ("/none/entries?source_lang=en&target_lang=de", ""),
        (f"/{made}/entries?source_lang=de&target_lang=en", ""),
        (f"/{made}/dictionaries?source_lang=de&target_lang=en", "DELETE"),
    ):  # fmt: skip
        assert v3(server, path, verb=verb).status == 404, path
    assert v3(server, "/none", {"name": "x"}, "PATCH").status == 404
    for sent in ({"name": "x"}, {"name": "x", "dictionaries": {}}, {"name": "x", "dictionaries": ["a"]}):
        assert v3(server, "", sent).json["message"].startswith("dictionaries")
    several = {"text": ["a"], "source_lang": "EN", "target_lang": "DE", "glossary_ids": [made, "b"]}
    assert ask(f"{server.url}/v2/translate", several).json["message"].startswith("glossary_ids: ")


def test_pairs_of_languages(server: ServerThread) -> None:
    assert ask(f"{server.url}/v2/glossary-language-pairs").json == {
        "supported_languages": [
            {"source_lang": "de", "target_lang": "en"},
            {"source_lang": "en", "target_lang": "de"},
            {"source_lang": "en", "target_lang": "pt"},
        ]
    }


def test_glossaries_are_not_writable_unless_the_operator_says_so(tmp_path: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0, glossaries=tmp_path) as server:
        reply = v2(server, "", NEW)
    assert reply.status == 403
    assert "--glossaries-writable" in reply.json["message"]
