"""Checkpoints are downloaded from a hub: here, a server of the test, which speaks as much of its protocol as needed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dragoman_export.imports.download import checkpoint_at
from dragoman_service.errors import InvalidInput

REPOSITORY, COMMIT = "somebody/opus-mt-en-de", "a" * 40
FILES = {
    "config.json": b"{}",
    "source.spm": b"s" * 25_000_000,
    "model.safetensors": b"m" * 10,
    "pytorch_model.bin": b"p",
    "flax_model.msgpack": b"f",
}


class Hub(BaseHTTPRequestHandler):
    """Lists and sends `FILES`. Of the first request for a file, it sends half and closes the connection."""

    interrupted: set[str]
    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        name = path.rpartition("/")[2]
        if path.startswith(f"/api/models/{REPOSITORY}"):
            found = [{"rfilename": it, "path": it, "type": "file", "size": len(FILES[it]), "oid": "0"} for it in FILES]
            listing = json.dumps(found if "/tree/" in path else {"id": REPOSITORY, "sha": COMMIT, "siblings": found})
            self.send(200, listing.encode(), with_body=with_body)
        elif path.startswith(f"/{REPOSITORY}/resolve/") and name in FILES:
            self.file(name, with_body=with_body)
        else:
            self.send(404, b"{}", with_body=with_body)

    def file(self, name: str, *, with_body: bool) -> None:
        contents, start = FILES[name], 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if with_body:
            self.asked.append(f"{name} from {start}")
        headers = {"ETag": f'"{hashlib.sha1(contents).hexdigest()}"', "X-Repo-Commit": COMMIT}
        part = contents[start:]
        if with_body and name == "source.spm" and name not in self.interrupted:
            self.interrupted.add(name)
            self.send(200, part, headers, most=len(part) // 2, with_body=True)
            self.close_connection = True
        else:
            self.send(206 if start else 200, part, headers, with_body=with_body)

    def send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, most: int = 10**9, with_body: bool
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[:most])


@contextmanager
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OneHub", (Hub,), {"interrupted": set(), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


def test_a_download_is_a_folder_without_what_is_not_needed_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    program = f"from dragoman_export.imports.download import checkpoint_at; print(checkpoint_at('hf:{REPOSITORY}'))"
    with hub() as (address, handler):
        # A process of its own: the library reads its settings once.
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, timeout=120
        )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert {it.name: it.read_bytes() for it in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "source.spm", "model.safetensors")
    }
    resumed = [it for it in handler.asked if it.startswith("source.spm")]
    assert len(resumed) == 2
    assert int(resumed[1].rpartition(" ")[2]) > 0, "what has arrived is not sent again"


@pytest.mark.parametrize("name", ["hf:", "hf:opus", "hf:../secrets", "hf:a/b/c", "hf:a/ b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="hf:OWNER/NAME"):
        checkpoint_at(name)


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert checkpoint_at(str(tmp_path)) == tmp_path
