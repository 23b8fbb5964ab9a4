"""Files of a bundle are damaged while it serves: answers stay what they were, and operators hear of it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragoman_service.bundle.bundle import MANIFEST, Bundle
from dragoman_service.bundle.manifest import DECODER, ENCODER, FILES, GOLDEN, TOKENIZER, WEIGHTS
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.values import Options
from support.repositories import add_version
from support.server_process import ServerProcess, page, server_process
from support.tiny import sentences
from support.waiting import wait_until

TEXTS = sentences(6, seed=9)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 8)


def overwrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    os.replace(other, path)


DAMAGES: tuple[Callable[[Path], None], ...] = (truncate, overwrite, delete, replace)


def ask(client: TranslationClient, model: str) -> list[tuple[str, float]]:
    options = Options(model=model, max_length=30)
    return [(it.text, it.score) for it in client.translate(TEXTS, options, deadline=60)]


@contextmanager
def asked_all_the_time(address: str, expected: Mapping[str, list[tuple[str, float]]]) -> Iterator[list[str]]:
    """Ask all models in turns on two threads. Yields the problems, and ends after one more round."""
    problems: list[str] = []
    stop = threading.Event()

    def insist() -> None:
        with TranslationClient(address) as client:
            last = False
            while not last and not problems:
                last = stop.is_set()  # a whole round after the last change
                for model, answers in expected.items():
                    try:
                        found = ask(client, model)
                    except Exception as error:
                        problems.append(f"{model}: {error!r}")
                        break
                    if found != answers:
                        problems.append(f"{model}: {found} instead of {answers}")

    threads = [threading.Thread(target=insist) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield problems
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def changed_files(server: ServerProcess) -> dict[str, float]:
    """Model -> the number of its changed files."""
    families = text_string_to_metric_families(page(server.metrics_url)[1])
    return {
        sample.labels["model"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "dragoman_model_files_changed"
    }


def warnings(server: ServerProcess) -> list[str]:
    return [line for line in server.errors if "changed since it was loaded" in line]


def stop_in_order(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.errors


@pytest.mark.slow
def test_every_file_may_be_damaged_in_every_way(tiny_bundle: Bundle, tmp_path: Path) -> None:
    places: dict[str, tuple[Path, str, Callable[[Path], None]]] = {}
    for file in (*FILES, TOKENIZER, MANIFEST):
        for damage in DAMAGES:
            name = f"{file.split('.')[0]}-{damage.__name__}"
            places[name] = (add_version(tmp_path, tiny_bundle.path, name, "1"), file, damage)
    folders = [place for place, _, _ in places.values()]
    untouched = add_version(tmp_path, tiny_bundle.path, "untouched", "1")
    with server_process([*folders, untouched], "--max-rows", "4") as server:
        with TranslationClient(server.address) as client:
            expected = {name: ask(client, name) for name in (*places, "untouched")}
        server.wait_for_metrics(lambda metrics: "dragoman_model_files_changed" in metrics)
        wait_until(lambda: changed_files(server) == dict.fromkeys(expected, 0.0), seconds=60)
        with asked_all_the_time(server.address, expected) as problems:
            for place, file, damage in places.values():
                damage(place / file)
            wait_until(lambda: sum(changed_files(server).values()) == len(places), seconds=60)
        assert not problems
        assert changed_files(server) == {**dict.fromkeys(places, 1.0), "untouched": 0.0}
        assert server.page("/ready")[0] == 200
        wait_until(lambda: len(warnings(server)) == len(places), seconds=60)
        for name, (place, file, damage) in places.items():
            (line,) = [line for line in warnings(server) if f" {name} version 1: " in line]
            what = "is missing" if damage is delete else "has other contents"
            assert f"files of its bundle in {place} changed since it was loaded: {file} {what}." in line
        stop_in_order(server)
    print(f"{len(places)} bundles damaged in one server: all answers as before, {len(places)} warnings")


def test_a_server_that_watches_its_repository_says_it_too(tiny_bundle: Bundle, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    place = add_version(repository, tiny_bundle.path, "tiny", "1")
    with server_process([], "--repository", str(repository), "--watch", "0.2", "--max-rows", "4") as server:
        with TranslationClient(server.address) as client:
            expected = {"tiny": ask(client, "tiny")}
        with asked_all_the_time(server.address, expected) as problems:
            for file in (WEIGHTS, ENCODER, DECODER, TOKENIZER, GOLDEN):
                overwrite(place / file)
            wait_until(lambda: changed_files(server) == {"tiny": 5.0}, seconds=60)
        assert not problems
        shutil.rmtree(place)  # a version that disappears serves on
        wait_until(lambda: changed_files(server) == {"tiny": 7.0}, seconds=60)
        # Each file is named once, when it is first seen changed.
        named = " ".join(warnings(server))
        files = (*FILES, TOKENIZER, MANIFEST)
        assert {file: named.count(f"{file} ") for file in files} == dict.fromkeys(files, 1)
        add_version(repository, tiny_bundle.path, "tiny", "2")
        wait_until(lambda: changed_files(server) == {"tiny": 0.0}, seconds=60)
        stop_in_order(server)


def test_a_file_put_back_is_no_change(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = add_version(tmp_path, tiny_bundle.path, "tiny", "1")
    weights = (place / WEIGHTS).read_bytes()
    with server_process([place], "--max-rows", "4") as server:
        (place / WEIGHTS).write_bytes(weights[:-1])
        wait_until(lambda: changed_files(server) == {"tiny": 1.0}, seconds=60)
        (place / WEIGHTS).write_bytes(weights)
        wait_until(lambda: changed_files(server) == {"tiny": 0.0}, seconds=60)
        os.utime(place / WEIGHTS)
        stop_in_order(server)
    assert len(warnings(server)) == 1


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_nothing_is_left_in_the_temporary_folder(
    precision: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle: Bundle = request.getfixturevalue("tiny_bundle" if precision == "fp32" else "tiny_int8_bundle")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with server_process([bundle.path], "--max-rows", "4") as server:
        assert not list(tmp_path.iterdir())
        with TranslationClient(server.address) as client:
            assert ask(client, "tiny")
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert str(bundle.path) not in maps, "a file of the bundle itself is mapped"
