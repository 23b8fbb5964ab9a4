"""Named glossaries: files of a folder, which are read again when they change."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.text.terms import Glossary, Term, read_terms
from dragoman_service.translation import glossary_files
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.glossaries import GlossaryFolder
from support.fake_workers import FakeWorkers, served
from support.frontends import call, on_frontend
from support.server_thread import refusal, serving


def targets(folder: GlossaryFolder, name: str = "bank") -> list[str | None]:
    return [match.term.target for match in folder.find(name, "en", "de").matches("bank river")]


def test_lines_are_terms() -> None:
    text = "# comment\nbank\tHaus\r\n\nUS\tUSA\tcase\na b\tc d"
    assert read_terms(text, "x") == [Term("bank", "Haus"), Term("US", "USA", True), Term("a b", "c d")]


def test_a_file_that_changes_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, file = GlossaryFolder(tmp_path), tmp_path / "bank.en-de.tsv"
    with pytest.raises(NotFound, match=r"glossary 'bank': there is none for en-de; there are: none"):
        targets(folder)
    file.write_text("bank\tHaus\n")
    assert targets(folder) == ["Haus"]
    assert folder.find("bank", "en", "de") is folder.find("bank", "en", "de")
    file.write_text("bank\tUfer\nriver\tFluss\n")
    assert targets(folder) == ["Ufer", "Fluss"]
    with caplog.at_level(logging.WARNING):
        file.write_text("bank\tUfer\n\nriver")
        assert targets(folder) == targets(folder) == ["Ufer", "Fluss"]
    assert [record.getMessage() for record in caplog.records] == [
        "glossary not reloaded: bank.en-de.tsv, line 3: got 'river'; allowed: "
        "SOURCE<tab>TARGET or SOURCE<tab>TARGET<tab>case"
    ]
    file.write_text("\ufeffriver\tStrom")
    assert targets(folder) == ["Strom"]
    file.unlink()
    with pytest.raises(NotFound):
        targets(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a", "bank.en-de.tsv, line 1: got 'a'"),
        (b"a\tb\n a\tb", "bank.en-de.tsv, line 2.source: got ' a'"),
        (b"a\t\xff", "bank.en-de.tsv: got 'byte 3 of it'; allowed: UTF-8"),
        (b"#" * 101, "bank.en-de.tsv: got 'more than 100 bytes'"),
    ],
)
def test_errors_have_the_file_and_the_line(
    content: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glossary_files, "MAX_BYTES", 100)
    (tmp_path / "bank.en-de.tsv").write_bytes(content)
    with pytest.raises(InvalidInput) as raised:
        targets(GlossaryFolder(tmp_path))
    assert raised.value.field == "glossary"
    assert problem in str(raised.value)


@pytest.mark.parametrize("name", ["", ".", "../bank", "/bank", "sub/bank", "b\x00", "x" * 5000])
def test_names_are_no_paths(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    for folder in (tmp_path, inner, inner / "sub"):
        (folder / "bank.en-de.tsv").write_text("bank\tHaus")
    with pytest.raises(NotFound, match="there are: bank"):
        targets(GlossaryFolder(inner), name)


def test_over_grpc(tmp_path: Path) -> None:
    for name, target in (("bank.en-de", "Haus"), ("other.en-de", "Ufer"), ("bank.de-en", "house"), (".en-de", "x")):
        (tmp_path / f"{name}.tsv").write_text(f"bank\t{target}\nthe\tdie")
    with (
        serving([served(FakeWorkers())], glossaries=tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = translation_pb2_grpc.TranslationStub(channel)
        (model,) = stub.ListModels(pb.ListModelsRequest()).models
        assert model.glossaries == ["bank.en-de", "other.en-de"]
        terms = [pb.Term(source="the", target="das")]
        for name, text in (("bank", "A das Haus"), ("other", "A das Ufer")):
            request = pb.TranslateRequest(texts=["a the bank"], glossary=name, terms=terms)
            (translation,) = stub.Translate(request).translations
            assert translation.hypotheses[0].text == text
        *_, last = stub.TranslateStream(pb.TranslateStreamRequest(text="a bank", glossary="bank"))
        assert last.result.translation.hypotheses[0].text == "A Haus"
        error = refusal(lambda: stub.Translate(pb.TranslateRequest(texts=["a"], glossary="none")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "there are: bank, other" in error.details()


def test_a_server_without_glossaries_has_none() -> None:
    with pytest.raises(NotFound, match="there are: none"):
        targets(GlossaryFolder(None))


def test_a_file_is_not_read_on_the_event_loop(tmp_path: Path) -> None:
    (tmp_path / "bank.en-de.tsv").write_text("bank\tBank\n")
    threads: list[int] = []

    class Noting(GlossaryFolder):
        def find(self, name: str, source_language: str, target_language: str, *, ignore_case: bool = False) -> Glossary:
            threads.append(threading.get_ident())
            return super().find(name, source_language, target_language, ignore_case=ignore_case)

    model = served(FakeWorkers())

    async def work(frontend: Frontend) -> str:
        frontend.glossaries = Noting(tmp_path)
        (result,) = await frontend.translate(call(model, "a bank", glossary="bank"))
        return result.hypotheses[0].text

    assert on_frontend(model, work) == "A Bank"
    assert threads
    assert threading.get_ident() not in threads
