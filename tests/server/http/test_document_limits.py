"""Documents at the limits of a server, of a token and of a disk; with a scripted engine that writes capitals."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dragoman_service.server.http.documents.job import Job, State
from dragoman_service.server.http.documents.spool import FolderUnusable, Spool, spool_folder
from support.fake_workers import FakeWorkers, served
from support.http_calls import ask, head, opened
from support.server_thread import ServerThread, serving
from support.tokens import add_token, revoke_token
from support.uploads import TYPE, begun, ended, send
from support.waiting import PATIENCE, wait_until

LINES = b'["one two", "three four", "five six", "seven"]'


def documents_kept(server: ServerThread) -> int:
    assert server.server._documents is not None
    return len(list(server.server._documents._spool.jobs()))


def test_a_document_that_arrives_takes_room_already() -> None:
    with serving([served(FakeWorkers())], http_port=0, max_documents=2) as server:
        start = head("/v1/documents", f"content-type: {TYPE['content-type']}", "content-length: 1000")
        with opened(server.url) as slow:
            slow.sendall(start + b"\r\n--B\r\n")
            wait_until(lambda: _arriving(server) == 1)
            assert send(f"{server.url}/v1/documents", "a.txt", b"One.", source_language="en").status == 429
        wait_until(lambda: _arriving(server) == 0)
        ended(server.url, begun(server.url, "a.txt", b"One.", source_language="en"))
        assert (_arriving(server), documents_kept(server)) == (0, 1)


def _arriving(server: ServerThread) -> int:
    assert server.server._documents is not None
    return len(server.server._documents._arriving)


def test_no_more_are_kept_than_allowed_however_many_come_at_once() -> None:
    with (
        serving([served(FakeWorkers(held=True))], http_port=0, max_documents=6) as server,
        ThreadPoolExecutor(12) as pool,
    ):
        url = f"{server.url}/v1/documents"
        sent = list(pool.map(lambda _: send(url, "a.txt", b"One.", source_language="en").status, range(12)))
        assert (sent.count(202), sent.count(429), documents_kept(server)) == (3, 9, 3)


def test_a_revoked_token_ends_its_document(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    mine, other = ({"authorization": f"Bearer {add_token(path, name)}"} for name in ("mine", "other"))
    engine = FakeWorkers()
    engine.refuse_after, engine.retry_after = 0, 0.1
    with serving([served(engine)], http_port=0, tokens=path) as server:
        names = [begun(server.url, "a.txt", b"One.", it, source_language="en") for it in (mine, other)]
        revoke_token(path, "mine")
        wait_until(lambda: ask(f"{server.url}/v1/documents/{names[0]}", headers=mine).status == 401)
        wait_until(lambda: server.metric("dragoman_documents_total", state="FAILED") == 1)
        engine.refuse_after = None
        assert ended(server.url, names[1], other)["state"] == "DONE"


def test_a_quota_smaller_than_the_document_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    mine = {"authorization": f"Bearer {add_token(path, 'mine', characters_per_minute=600)}"}
    document = f'["{"a" * 300}", "{"b" * 20}", "{"c" * 290}", "{"d" * 700}"]'.encode()
    with serving(
        [served(FakeWorkers(), max_source_tokens=1000, max_target_tokens=1000)], http_port=0, tokens=path
    ) as server:
        name = begun(server.url, "a.json", document, mine, source_language="en")
        job = ended(server.url, name, mine)
        assert (job["state"], job["problemCount"]) == ("DONE", 1)
        assert job["problems"][0]["message"].startswith("got '700 characters'; allowed: at most 600")
        translated = ask(f"{server.url}/v1/documents/{name}/content", headers=mine).body
        assert translated == f'["{"A" * 300}", "{"B" * 20}", "{"C" * 290}", "{"d" * 700}"]'.encode()


def test_a_text_that_no_call_could_have_is_not_waited_for() -> None:
    document = b'["' + b"a" * (16 * 2**20 - 20) + b'", "one"]'
    with serving([served(FakeWorkers())], http_port=0) as server:
        name = begun(server.url, "a.json", document, source_language="en")
        job = ended(server.url, name)
        assert (job["state"], job["problemCount"]) == ("DONE", 1)
        assert job["problems"][0]["message"] == f"got {16 * 2**20 - 20} characters; allowed: at most 100000"
        assert ask(f"{server.url}/v1/documents/{name}/content").body == document.replace(b"one", b"ONE")


def test_a_server_that_stops_ends_what_it_began_and_begins_nothing(tmp_path: Path) -> None:
    engine = FakeWorkers()
    engine.refuse_after, engine.retry_after = 0, 0.1
    with serving([served(engine)], http_port=0, document_folder=tmp_path) as server:
        name = begun(server.url, "a.json", LINES, source_language="en")
        wait_until(lambda: _refused(server) > 0)
        stopping = asyncio.run_coroutine_threadsafe(server.server.stop(PATIENCE), server.loop)
        wait_until(lambda: ask(f"{server.url}/v1/translate", {"texts": ["one"]}).status == 503)
        assert send(f"{server.url}/v1/documents", "a.txt", b"One.").status == 503
        assert ask(f"{server.url}/v1/documents/{name}").json["state"] == "RUNNING"
        engine.refuse_after = None
        stopping.result(PATIENCE)
        job = Spool(tmp_path).find(name)
        assert job is not None
        assert (job.state, job.error) == (State.DONE, "")


def _refused(server: ServerThread) -> float:
    return server.metric("dragoman_requests_total", api="documents", method="Translate", code="RESOURCE_EXHAUSTED")


def test_what_a_killed_process_left_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(
        [served(FakeWorkers(held=True))], http_port=0, document_folder=tmp_path, document_timeout=2.0, document_ttl=1.0
    ) as server:
        name = begun(server.url, "a.txt", b"One.", source_language="en")
        # What is on the disk while the job runs is what a killed process leaves.
        kept = (tmp_path / name / "job.json").read_text()
    left = tmp_path / name
    (left / "job.json").write_text(kept)
    spool = Spool(tmp_path)
    job = spool.find(name)
    assert job is not None
    assert (job.state, job.error) == (State.FAILED, "the process that translated it has ended")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3.1)
    assert spool.find(name) is None
    monkeypatch.setattr(time, "time", lambda: now + 100)
    spool.clean()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with serving([served(FakeWorkers())], http_port=0, document_folder=tmp_path) as server:
        for where, name in ((shutil, "copyfileobj"), (Path, "write_text")):
            with monkeypatch.context() as patched:
                patched.setattr(where, name, full)
                reply = send(f"{server.url}/v1/documents", "a.txt", b"One.", source_language="en")
            assert (reply.status, "No space left on device" in reply.json["message"]) == (429, True)
            assert list(tmp_path.iterdir()) == []
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            job = ended(server.url, begun(server.url, "a.txt", b"One.", source_language="en"))
        assert (job["state"], job["error"]) == ("FAILED", "the server cannot keep it: No space left on device")


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for given in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/documents")):
        with pytest.raises(FolderUnusable, match=f"--document-folder: {given}: "), spool_folder(given):
            pass


def test_a_job_deleted_by_another_process_ends(tmp_path: Path) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0, document_folder=tmp_path) as server:
        name = begun(server.url, "a.json", LINES, source_language="en")
        wait_until(lambda: engine.running > 0)
        Spool(tmp_path).remove(name)
        engine.release()
        wait_until(lambda: server.metric("dragoman_documents_total", state="FAILED") == 1)
        assert list(tmp_path.iterdir()) == []


def test_no_descriptor_or_process_is_left(tmp_path: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0, document_folder=tmp_path) as server:
        ended(server.url, begun(server.url, "a.txt", b"One.", source_language="en"))
        before = (len(os.listdir("/proc/self/fd")), _children())
        for document in (b"One.", b"One \xff", b""):
            ended(server.url, begun(server.url, "a.txt", document, source_language="en"))
        wait_until(
            lambda: (len(os.listdir("/proc/self/fd")), _children()) <= before,
            lambda: (before, os.listdir("/proc/self/fd"), _children()),
        )


def _children() -> int:
    return sum(len(it.read_text().split()) for it in Path("/proc/self/task").glob("*/children"))


def test_the_shape_of_a_job_survives_the_disk() -> None:
    job = Job("owner", "a.txt", "en", "de", state=State.RUNNING)
    assert Job.of_json(job.to_json()) == job
    for broken in ("", "{}", "[]", '{"id": 1}'):
        with pytest.raises(ValueError, match=r"no job|Expecting value"):
            Job.of_json(broken)


def test_a_job_that_is_removed_while_it_is_read_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    job = Job("me", "a.txt", "en", "de")
    os.close(spool.add(job))

    def removed(name: str) -> bool:
        spool.remove(name)
        return True

    monkeypatch.setattr(spool, "_is_left", removed)
    assert spool.find(job.id) is None


def test_a_process_that_writes_meanwhile_keeps_no_job_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    job = Job("me", "a.txt", "en", "de")
    os.close(spool.add(job))
    with monkeypatch.context() as patched:
        # As it ends when a file appears in the folder after the others have been removed.
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        spool.remove(job.id)
    assert spool.find(job.id) is None
    with pytest.raises(FileNotFoundError):
        spool.write(job)
    spool.clean()
    assert list(tmp_path.iterdir()) == []
