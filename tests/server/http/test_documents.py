"""Documents over HTTP, with a scripted engine that writes capitals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.server.http.documents import process
from dragoman_service.server.http.documents.job import safe_name
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.http_calls import ask, head, opened
from support.server_thread import ServerThread, serving
from support.tokens import add_token
from support.uploads import TYPE, begun, ended, form, send
from support.waiting import wait_until

HTML = "<html><head><title>A title</title></head><body><p class='x'>The <b>house</b>.</p><hr><p>Two.</p></body></html>"
CAPITALS = (
    "<html><head><title>A TITLE</title></head><body><p class='x'>THE <b>HOUSE</b>.</p><hr><p>TWO.</p></body></html>"
)
KILLED = "the document takes more memory or time than is allowed, or is broken"
PAIRS = (("en", "de"), ("de", "en"))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    model = served(FakeWorkers(), languages=Languages(PAIRS))
    with serving([model], http_port=0, limits=RequestLimits(max_characters=1_000)) as running:
        yield running


def content(server: ServerThread, name: str) -> bytes:
    reply = ask(f"{server.url}/v1/documents/{name}/content")
    assert reply.status == 200, reply.body
    return reply.body


@pytest.mark.parametrize(
    ("name", "document", "translated"),
    [
        ("a.txt", "One two.\r\n\r\nThree.\n", "ONE TWO.\r\n\r\nTHREE.\n"),
        ("A.HTML", HTML, CAPITALS),
        ("a.md", "# One\n\n- two `code`\n", "# ONE\n\n- TWO `code`\n"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nOne.\n\n", "1\n00:00:01,000 --> 00:00:02,000\nONE.\n\n"),
        ("a.json", '{"key": ["one", 2]}', '{"key": ["ONE", 2]}'),
        ("a.po", 'msgid "one"\nmsgstr ""\n', 'msgid "one"\nmsgstr "ONE"\n'),
    ],
)  # fmt: skip
def test_a_document_is_translated_and_all_else_stays(
    server: ServerThread, name: str, document: str, translated: str
) -> None:
    job = ended(server.url, begun(server.url, name, document.encode(), source_language="en", target_language="de"))
    assert (job["state"], job["texts"], job["problems"]) == ("DONE", job["textsDone"], [])
    assert (job["sourceLanguage"], job["targetLanguage"], job["name"]) == ("en", "de", name)
    assert content(server, job["id"]).decode() == translated


def test_the_reply_is_a_file_that_no_browser_shows_as_a_page(server: ServerThread) -> None:
    name = begun(server.url, "Füße 1.html", HTML.encode(), target_language="de")
    job = ended(server.url, name)
    reply = ask(f"{server.url}{job['content']}")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    plain, encoded = 'filename="F__e 1.de.html"', "filename*=UTF-8''F%C3%BC%C3%9Fe%201.de.html"
    assert reply.headers["content-disposition"] == f"attachment; {plain}; {encoded}"
    assert (reply.headers["x-content-type-options"], reply.headers["content-security-policy"]) == ("nosniff", "sandbox")


def test_the_language_of_a_document_is_detected_once(server: ServerThread) -> None:
    document = "Good morning, how are you today?\nno\nThe house is green."
    job = ended(server.url, begun(server.url, "a.txt", document.encode(), target_language="de"))
    assert (job["state"], job["sourceLanguage"]) == ("DONE", "en")


def test_texts_that_are_refused_stay_and_are_told(server: ServerThread) -> None:
    long = "word " * 300
    document = f'["one", "{long}", "two", "{long}"]'
    job = ended(server.url, begun(server.url, "a.json", document.encode(), source_language="en", target_language="de"))
    assert (job["state"], job["texts"], job["textsDone"], job["problemCount"]) == ("DONE", 4, 4, 2)
    assert job["problems"][0]["place"] == "1"
    assert "allowed: at most 1000" in job["problems"][0]["message"]
    assert content(server, job["id"]).decode() == f'["ONE", "{long}", "TWO", "{long}"]'


@pytest.mark.parametrize(
    ("name", "document", "error"),
    [
        ("a.json", b"{", "not JSON"),
        ("a.txt", b"One \xff", "line 1: got the byte 0xff; allowed: UTF-8"),
        ("a.xliff", b"<!DOCTYPE x><xliff version='1.2'/>", "not XLIFF: got <!DOCTYPE; allowed: none"),
        ("a.docx", b"no archive", ""),
    ],
)
def test_what_is_no_such_document_fails_and_says_why(
    server: ServerThread, name: str, document: bytes, error: str
) -> None:
    job = ended(server.url, begun(server.url, name, document, target_language="de"))
    assert job["state"] == "FAILED"
    assert job["error"].startswith(error)
    assert ask(f"{server.url}/v1/documents/{job['id']}/content").status == 404


def test_an_empty_document_is_itself(server: ServerThread) -> None:
    job = ended(server.url, begun(server.url, "a.html", b"<hr>", target_language="de"))
    assert (job["state"], job["texts"], content(server, job["id"])) == ("DONE", 0, b"<hr>")


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{}", {"content-type": "application/json"}, 400, "content-type: got 'application/json'"),
        (form({"target_language": "de"}), TYPE, 400, "file: got 'nothing'; allowed: a document in file"),
        (form({}, "a.exe", b"x"), TYPE, 400, "file: got 'a.exe'; allowed: a name that ends with .txt, .html"),
        (form({}, "a.txt", b"x", field="other"), TYPE, 400, "file: got 'other'"),
        (form({"beam": "4"}, "a.txt", b"x"), TYPE, 400, "beam: got '4'; allowed: file, source_language"),
        (form({"target_language": "xx"}, "a.txt", b"x"), TYPE, 404, "xx"),
        (form({"model": "none"}, "a.txt", b"x"), TYPE, 404, "none"),
        (b"--B\r\n", TYPE, 400, "file: got 'nothing'"),
        (b"", {"content-type": "multipart/form-data"}, 400, "request: got 'Missing boundary in multipart.'"),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong_is_refused_at_once(
    server: ServerThread, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    reply = ask(f"{server.url}/v1/documents", body, headers)
    assert reply.status == status
    assert message in reply.json["message"]


def test_unknown_and_misspelled_jobs(server: ServerThread) -> None:
    for name in ("0" * 32, "..", "%2e%2e%2fx", "a"):
        assert ask(f"{server.url}/v1/documents/{name}").status == 404
    name = begun(server.url, "a.txt", b"One.", target_language="de")
    for wait in ("-1", "61", "x", "nan"):
        reply = ask(f"{server.url}/v1/documents/{name}?wait={wait}")
        assert (reply.status, reply.json["message"].partition(":")[0]) == (400, "wait")


def test_a_document_that_is_deleted_is_gone() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        name = begun(server.url, "a.txt", b"One.", source_language="en")
        wait_until(lambda: engine.running == 1)
        assert ask(f"{server.url}/v1/documents/{name}").json["state"] == "RUNNING"
        assert ask(f"{server.url}/v1/documents/{name}/content").status == 404
        assert ask(f"{server.url}/v1/documents/{name}", verb="DELETE").json == {}
        wait_until(lambda: engine.running == 0)
        assert ask(f"{server.url}/v1/documents/{name}").status == 404


def test_overload_is_waited_out() -> None:
    engine = FakeWorkers()
    engine.refuse_after, engine.retry_after = 0, 0.2
    with serving([served(engine)], http_port=0) as server:
        name = begun(server.url, "a.txt", b"One.", source_language="en")
        wait_until(
            lambda: (
                server.metric("dragoman_requests_total", api="documents", method="Translate", code="RESOURCE_EXHAUSTED")
                > 1
            )
        )
        engine.refuse_after = None
        job = ended(server.url, name)
        assert (job["state"], content(server, name)) == ("DONE", b"ONE.")
        assert server.metric("dragoman_documents_total", state="DONE") == 1


def test_one_client_leaves_room_for_others_and_gets_it_back() -> None:
    with serving([served(FakeWorkers(held=True))], http_port=0, max_documents=4) as server:
        names = [begun(server.url, "a.txt", b"One.", source_language="en") for _ in range(2)]
        refused = send(f"{server.url}/v1/documents", "a.txt", b"One.", source_language="en")
        assert (refused.status, "4 are kept, and 2 of one client" in refused.json["message"]) == (429, True)
        assert refused.headers["retry-after"] == "30"
        ask(f"{server.url}/v1/documents/{names[0]}", verb="DELETE")
        begun(server.url, "a.txt", b"One.", source_language="en")


def test_documents_expire(tmp_path: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0, document_ttl=1.0, document_folder=tmp_path) as server:
        name = begun(server.url, "a.txt", b"One.", source_language="en")
        ended(server.url, name)
        wait_until(lambda: ask(f"{server.url}/v1/documents/{name}").status == 404)


def test_a_document_that_takes_too_long_fails() -> None:
    with serving([served(FakeWorkers(held=True))], http_port=0, document_timeout=1.0) as server:
        job = ended(server.url, begun(server.url, "a.txt", b"One.", source_language="en"))
        assert (job["state"], job["error"]) == ("FAILED", "it took longer than 1 s")


def test_a_server_that_stops_says_so_and_removes_its_folder(tmp_path: Path) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0, document_folder=tmp_path / "new") as server:
        name = begun(server.url, "a.txt", b"One.", source_language="en")
        wait_until(lambda: engine.running == 1)
    with serving([served(engine)], http_port=0, document_folder=tmp_path / "new") as server:
        job = ask(f"{server.url}/v1/documents/{name}").json
        assert (job["state"], job["error"]) == ("FAILED", "the server was stopped")


def test_too_large_a_document_is_refused_before_it_has_arrived() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_document_mib=1) as server:
        reply = send(f"{server.url}/v1/documents", "a.txt", b"One. " * 300_000)
        assert (reply.status, "at most" in reply.json["message"]) == (413, True)
        with opened(server.url) as connection:
            start = head("/v1/documents", f"content-type: {TYPE['content-type']}", "content-length: 1000000000")
            connection.sendall(start + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 413")
        just = b"A" * (2**20)
        job = ended(server.url, begun(server.url, "a.json", b'"' + just[2:] + b'"', source_language="en"))
        assert job["state"] == "DONE"


def test_others_cannot_see_a_document(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    mine, other = ({"authorization": f"Bearer {add_token(path, name)}"} for name in ("mine", "other"))
    with serving([served(FakeWorkers())], http_port=0, tokens=path) as server:
        assert send(f"{server.url}/v1/documents", "a.txt", b"One.").status == 401
        name = begun(server.url, "a.txt", b"One.", mine, source_language="en")
        assert ended(server.url, name, mine)["state"] == "DONE"
        where = f"{server.url}/v1/documents/{name}"
        for url, verb in ((where, "GET"), (f"{where}/content", "GET"), (where, "DELETE")):
            assert ask(url, verb=verb).status == 401
            assert ask(url, headers=other, verb=verb).status == 404
        assert ask(f"{where}/content", headers=mine).body == b"ONE."


class Workers:
    """Processes of documents, by their ids."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._start = process.asyncio.create_subprocess_exec

    async def start(self, *arguments: Any, **options: Any) -> Any:
        started = await self._start(*arguments, **options)
        self.ids.append(started.pid)
        return started


def test_a_process_that_is_killed_fails_its_document_only(server: ServerThread) -> None:
    workers = Workers()
    engine = FakeWorkers(held=True)
    with (
        mock.patch.object(process.asyncio, "create_subprocess_exec", workers.start),
        serving([served(engine)], http_port=0) as held,
    ):
        first, second = (begun(held.url, "a.txt", b"One.", source_language="en") for _ in range(2))
        wait_until(lambda: engine.running == 2)
        os.kill(workers.ids[0], signal.SIGKILL)
        engine.release()
        jobs = [ended(held.url, it) for it in (first, second)]
        assert sorted(job["state"] for job in jobs) == ["DONE", "FAILED"]
        assert {job.get("error") for job in jobs} == {None, KILLED}


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers()
    monkeypatch.setattr(process, "SECONDS", 1)

    async def stopped(*arguments: Any, **options: Any) -> Any:
        started = await workers.start(*arguments, **options)
        os.kill(started.pid, signal.SIGSTOP)
        return started

    monkeypatch.setattr(process.asyncio, "create_subprocess_exec", stopped)
    with serving([served(FakeWorkers())], http_port=0) as server:
        job = ended(server.url, begun(server.url, "a.txt", b"One.", source_language="en"))
        assert (job["state"], job["error"]) == ("FAILED", "the document takes longer than 1 s to read or write")
    wait_until(lambda: not Path(f"/proc/{workers.ids[0]}").exists())


def test_a_process_has_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MEMORY_MIB", 150)
    with serving([served(FakeWorkers())], http_port=0) as server:
        document = b"[" + b'"one two",' * 1_200_000 + b'"x"]'
        job = ended(server.url, begun(server.url, "a.json", document, source_language="en"))
        assert job["state"] == "FAILED"
        assert "more memory" in job["error"]


def test_libretranslate_waits_and_tells_an_address(server: ServerThread) -> None:
    reply = send(f"{server.url}/translate_file", "a.html", HTML.encode(), source="en", target="de")
    assert reply.status == 200, reply.body
    address = reply.json["translatedFileUrl"]
    assert address.startswith(f"{server.url}/download_file/")
    assert address.endswith(".html")
    assert b"<b>HOUSE</b>" in ask(address).body
    assert ask(f"{server.url}/frontend/settings").json["filesTranslation"] is True
    for fields, error in (
        ({"target": "de"}, "Invalid request: missing source parameter"),
        ({"source": "en", "target": "xx"}, "xx is not supported"),
        ({"source": "en", "target": "en"}, "Invalid request: a file is not translated into its own language"),
    ):
        refused = send(f"{server.url}/translate_file", "a.txt", b"One.", **fields)
        assert (refused.status, refused.json) == (400, {"error": error})
    broken = send(f"{server.url}/translate_file", "a.json", b"{", source="en", target="de")
    assert (broken.status, broken.json["error"].startswith("not JSON")) == (400, True)


def test_a_caller_of_libretranslate_who_leaves_ends_the_job() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        body = form({"source": "en", "target": "de"}, "a.txt", b"One.")
        with opened(server.url) as connection:
            start = head("/translate_file", f"content-type: {TYPE['content-type']}", f"content-length: {len(body)}")
            connection.sendall(start + b"\r\n" + body)
            wait_until(lambda: engine.running == 1)
        wait_until(lambda: engine.running == 0)


def test_deepl(server: ServerThread) -> None:
    sent = send(f"{server.url}/v2/document", "a.txt", b"One.", target_lang="DE", source_lang="EN").json
    url = f"{server.url}/v2/document/{sent['document_id']}"
    key = {"document_key": sent["document_key"]}
    wait_until(lambda: ask(url, key).json["status"] == "done")
    assert ask(url, key).json == {"document_id": sent["document_id"], "status": "done", "billed_characters": 4}
    assert ask(f"{url}/result", key).body == b"ONE."
    assert ask(url, {"document_key": "x"}).status == ask(f"{url}/result", {}).status == 404
    for fields, message in (
        ({"target_lang": "FR"}, "Value for 'target_lang' not supported: FR"),
        ({}, "Value for 'target_lang' is missing."),
        ({"target_lang": "DE", "output_format": "pdf"}, "output_format: got 'pdf'; allowed: txt"),
    ):
        refused = send(f"{server.url}/v2/document", "a.txt", b"One.", **fields)
        assert (refused.status, refused.json["message"].startswith(message)) == (400, True), refused.json
    broken = send(f"{server.url}/v2/document", "a.json", b"{", target_lang="DE").json
    url, key = f"{server.url}/v2/document/{broken['document_id']}", {"document_key": broken["document_key"]}
    wait_until(lambda: ask(url, key).json["status"] == "error")
    assert ask(url, key).json["error_message"].startswith("not JSON")


def test_deepl_says_that_a_document_is_not_ready() -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        sent = send(f"{server.url}/v2/document", "a.txt", b"One.", target_lang="DE").json
        url = f"{server.url}/v2/document/{sent['document_id']}"
        wait_until(lambda: engine.running == 1)
        key = {"document_key": sent["document_key"]}
        assert ask(url, key).json["status"] == "translating"
        assert ask(f"{url}/result", key).status == 503


def test_a_body_that_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_service.server.http.documents.upload._PART_SECONDS", 0.2)
    with serving([served(FakeWorkers())], http_port=0) as server, opened(server.url) as connection:
        start = head("/v1/documents", f"content-type: {TYPE['content-type']}", "content-length: 1000")
        connection.sendall(start + b"\r\n--B\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_documents_of_many_at_once_are_all_translated(server: ServerThread) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(begun(server.url, "a.txt", b"One.", target_language="de")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(server.url, name)["state"] for name in names] == ["DONE"] * 8


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a.txt", "a.txt"), ("../../etc/a.txt", "a.txt"), ("C:\\x\\a.txt", "a.txt"), ("a\n\x1b.txt", "a__.txt"),
        ("", "document"), ("...", "document"), ("x" * 300 + ".txt", "x" * 196 + ".txt"), (".txt", "txt"),
    ],
)  # fmt: skip
def test_names(given: str, safe: str) -> None:
    assert safe_name(given) == safe
