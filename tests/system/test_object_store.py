"""A repository in an object store: S3 as moto speaks it, on another process, read through fsspec and s3fs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.admin import AdminClient
from dragoman_service.client.errors import NotPossibleNow
from support.ports import free_ports
from support.repositories import add_version
from support.server_process import START_SECONDS, run_dragoman, server_process
from support.small_disk import fill, small_disk
from support.traffic import traffic, translations

pytestmark = pytest.mark.slow
INSTALL = "needs an S3 server: pip install s3fs 'moto[s3]' flask flask-cors"
URL = "s3://bucket/models"


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """A bucket, and the environment in which s3fs finds it, which child processes inherit."""
    s3fs = pytest.importorskip("s3fs", reason=INSTALL)
    pytest.importorskip("moto", reason=INSTALL)
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FSSPEC_S3_ENDPOINT_URL": endpoint,
    }
    os.environ.update(environment)
    try:
        _wait_for(endpoint)
        s3fs.S3FileSystem(endpoint_url=endpoint).mkdir("bucket")
        yield
    finally:
        process.kill()
        process.wait()
        for name in environment:
            os.environ.pop(name)


def _wait_for(url: str) -> None:
    limit = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.1)


def publish(bundle: Bundle, folder: Path, version: str) -> None:
    done = run_dragoman("models", "publish", add_version(folder, bundle.path, "tiny", version), URL)
    assert done.returncode == 0, done.stderr


def test_versions_come_from_a_bucket_while_calls_run(s3: None, tiny_bundle: Bundle, tmp_path: Path) -> None:
    publish(tiny_bundle, tmp_path, "1")
    admin, cache = f"unix:{tmp_path}/admin.sock", tmp_path / "cache"
    options = ("--repository", URL, "--cache", str(cache), "--admin", admin, "--watch", "0")
    with server_process([], *options) as server, AdminClient(admin) as client:
        expected = translations(server.address)
        with traffic(server.address, expected, clients=2) as seen:
            for version in ("2", "3"):
                publish(tiny_bundle, tmp_path, version)
                client.refresh()
                seen.wait_for(5)
            client.set_alias("tiny", "stable", "2")
            seen.wait_for(5)
        assert not seen.problems
        assert [version.state for version in client.versions()] == ["available", "serving", "available"]
        done = run_dragoman("models", "publish", tmp_path / "tiny" / "3", URL)
        assert (done.returncode, "bundles never change" in done.stderr) == (1, True)
    with server_process([], *options) as server:
        assert "model    tiny 2 (en to de)" in server.lines, "the alias is not in the bucket"


def test_a_full_disk_leaves_what_serves_and_is_no_harm_once_there_is_room(
    s3: None, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "cache", megabytes=4) as cache:
        publish(tiny_bundle, tmp_path, "10")
        admin = f"unix:{tmp_path}/admin.sock"
        options = ("--repository", URL, "--cache", str(cache), "--admin", admin, "--watch", "0")
        with server_process([], *options) as server, AdminClient(admin) as client:
            client.load("tiny", "10")
            expected = translations(server.address, 10)
            filler = cache / "filler"
            fill(filler)
            publish(tiny_bundle, tmp_path, "11")
            with traffic(server.address, expected, clients=2) as seen:
                with pytest.raises(NotPossibleNow, match="No space left on device"):
                    client.load("tiny", "11")
                seen.wait_for(5)
                assert not [path for path in cache.rglob(".*") if path.is_dir()], "a partial bundle is left"
                filler.unlink()
                client.load("tiny", "11")
                seen.wait_for(5)
            assert not seen.problems
