"""Glossaries that calls list, make, change and delete."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dragoman_service.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound, RepositoryError
from dragoman_service.text.terms import Glossary, Term, in_any_case
from dragoman_service.translation import glossaries
from dragoman_service.translation.glossaries import GlossaryFolder
from dragoman_service.translation.glossary_files import GlossaryId, GlossaryText, id_of

BANK = GlossaryId("bank", "en", "de")
TEXT = GlossaryText((Term("a b", "c d"), Term("US", "USA", True)), "Bank terms")


@pytest.fixture
def folder(tmp_path: Path) -> GlossaryFolder:
    return GlossaryFolder(tmp_path, writable=True)


def test_a_glossary_is_made_read_changed_and_deleted(folder: GlossaryFolder, tmp_path: Path) -> None:
    made = folder.create(BANK, TEXT)
    assert (tmp_path / "bank.en-de.tsv").read_bytes() == b"# Bank terms\na b\tc d\nUS\tUSA\tcase\n"
    assert (made.entries, made.description) == (TEXT.entries, "Bank terms")
    assert folder.get(BANK) == made
    assert [match.term.target for match in folder.find("bank", "en", "de").matches("us US A B")] == ["USA", "c d"]
    assert [match.term.target for match in folder.find("bank", "en", "de", ignore_case=True).matches("us")] == ["USA"]
    ((listed, count, text),) = folder.listing()
    assert (listed, count, text.description, text.entries, text.revision) == (BANK, 2, "Bank terms", (), made.revision)
    changed = folder.replace(BANK, GlossaryText((Term("x", "y"),)), made.revision)
    assert (changed.entries, changed.description) == ((Term("x", "y"),), "")
    assert changed.revision != made.revision
    assert [count for _, count, _ in folder.listing()] == [1]
    assert [match.term.target for match in folder.find("bank", "en", "de").matches("x US")] == ["y"]
    with pytest.raises(Conflict, match="has changed since revision"):
        folder.replace(BANK, TEXT, made.revision)
    folder.replace(BANK, TEXT, "")
    folder.delete(BANK)
    assert not list(tmp_path.iterdir())
    assert not folder.listing()
    for act in (lambda: folder.get(BANK), lambda: folder.delete(BANK), lambda: folder.replace(BANK, TEXT, "")):
        with pytest.raises(NotFound, match="glossary 'bank': there is none for en-de"):
            act()


def test_an_existing_file_is_never_replaced_by_a_new_glossary(folder: GlossaryFolder, tmp_path: Path) -> None:
    (tmp_path / "bank.en-de.tsv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlreadyExists):
        folder.create(BANK, TEXT)
    folder.create(GlossaryId("bank", "de", "en"), TEXT)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "glossary",
    [
        GlossaryId(name, source, target)
        for name, source, target in (
            ("", "en", "de"), (".", "en", "de"), ("..", "en", "de"), ("../x", "en", "de"), ("a/b", "en", "de"),
            ("a\0b", "en", "de"), ("a\nb", "en", "de"), ("-x", "en", "de"), ("a" * 101, "en", "de"), ("ä", "en", "de"),
            ("a", "../../x", "de"), ("a", "en", "de/../x"), ("a", "", "de"), ("a", "en", "e" * 51), ("a", "en", "d.e"),
        )
    ],
)  # fmt: skip
def test_names_are_never_paths(folder: GlossaryFolder, tmp_path: Path, glossary: GlossaryId) -> None:
    with pytest.raises(InvalidInput, match=r"glossary\.name"):
        folder.create(glossary, TEXT)
    for act in (lambda: folder.get(glossary), lambda: folder.delete(glossary)):
        with pytest.raises(NotFound):
            act()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (GlossaryText((Term("#a", "b"),)), "glossary.entries[0].source"),
        (GlossaryText((Term("a", "b"), Term("a", "c"))), "glossary.entries[1].source"),
        (GlossaryText((Term("a", "b\tcase"),)), "glossary.entries[0].target"),
        (GlossaryText((Term("a\nb", "c"),)), "glossary.entries[0].source"),
        (GlossaryText((Term("a", ""),)), "glossary.entries[0].target"),
        (GlossaryText((), "a\nb"), "glossary.description"),
        (GlossaryText((), " a"), "glossary.description"),
        (GlossaryText((), "a" * 201), "glossary.description"),
        (GlossaryText(tuple(Term(f"a{n}", "b") for n in range(10_001))), "glossary.entries"),
    ],
)
def test_what_a_file_cannot_have_is_named(
    folder: GlossaryFolder, tmp_path: Path, text: GlossaryText, field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        folder.create(BANK, text)
    assert raised.value.field == field
    assert not list(tmp_path.iterdir())


def test_there_are_not_too_many(folder: GlossaryFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glossaries, "MAX_GLOSSARIES", 2)
    for name in "ab":
        folder.create(GlossaryId(name, "en", "de"), TEXT)
    with pytest.raises(Conflict, match="there are 2 glossaries, as many as there may be"):
        folder.create(BANK, TEXT)


def test_without_leave_nothing_is_changed(tmp_path: Path) -> None:
    for folder in (GlossaryFolder(tmp_path), GlossaryFolder(None, writable=True)):
        for act in (
            lambda folder=folder: folder.create(BANK, TEXT),
            lambda folder=folder: folder.replace(BANK, TEXT, ""),
            lambda folder=folder: folder.delete(BANK),
        ):
            with pytest.raises(Forbidden, match="--glossaries-writable"):
                act()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="the folder of glossaries cannot be changed: No such file"):
        GlossaryFolder(tmp_path / "nowhere", writable=True).create(BANK, TEXT)


def test_a_write_that_fails_leaves_nothing(
    folder: GlossaryFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder.create(BANK, TEXT)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(RepositoryError, match="No space left"):
        folder.replace(BANK, GlossaryText(()), "")
    assert [path.name for path in tmp_path.iterdir()] == ["bank.en-de.tsv"]
    assert folder.get(BANK) == made


def test_of_changes_at_the_same_time_none_is_lost(tmp_path: Path) -> None:
    GlossaryFolder(tmp_path, writable=True).create(BANK, GlossaryText(()))

    def add(name: str) -> None:
        folder = GlossaryFolder(tmp_path, writable=True)  # as in another process
        while True:
            there = folder.get(BANK)
            try:
                folder.replace(BANK, GlossaryText((*there.entries, Term(name, "x"))), there.revision)
                return
            except Conflict:
                pass

    threads = [threading.Thread(target=add, args=(f"a{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = GlossaryFolder(tmp_path).get(BANK).entries
    assert {entry.source for entry in found} == {f"a{number}" for number in range(8)}


def test_files_with_errors_are_not_listed(folder: GlossaryFolder, tmp_path: Path) -> None:
    folder.create(BANK, TEXT)
    (tmp_path / "bad.en-de.tsv").write_text("x")
    (tmp_path / "odd.tsv").write_text("a\tb\n")
    (tmp_path / "pipe.en-de.tsv").symlink_to("/dev/null")
    assert [glossary for glossary, _, _ in folder.listing()] == [BANK]
    with pytest.raises(
        InvalidInput, match=r"name: got 'bad'; allowed: a glossary without errors; bad\.en-de\.tsv, line 1"
    ):
        folder.get(GlossaryId("bad", "en", "de"))


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("bank.en-de.tsv", BANK),
        ("a.b.pt-BR-en.tsv", GlossaryId("a.b", "pt-BR", "en")),
        ("a.en-pt-BR.tsv", GlossaryId("a", "en", "pt-BR")),
        ("a.zh-Hant-zh-Hans.tsv", GlossaryId("a", "zh-Hant", "zh-Hans")),
        ("a.eng_Latn-deu_Latn.tsv", GlossaryId("a", "eng_Latn", "deu_Latn")),
        ("a.x1-y2.tsv", GlossaryId("a", "x1", "y2")),
        ("a.en.tsv", None),
        ("a.en-de", None),
        (".en-de.tsv", None),
    ],
)
def test_files_are_cut_into_name_and_languages(file: str, found: GlossaryId | None) -> None:
    assert id_of(file) == found
    if found is not None:
        assert found.file == file


def test_of_terms_that_are_the_same_in_any_case_the_first_counts() -> None:
    terms = [Term("US", "USA", True), Term("us", "uns", True), Term("Bank", "Ufer")]
    assert [match.term.target for match in Glossary(terms).matches("us US uS bank")] == ["uns", "USA", "Ufer"]
    assert [match.term.target for match in in_any_case(terms).matches("us US uS BANK")] == ["USA"] * 3 + ["Ufer"]
