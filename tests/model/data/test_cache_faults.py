"""The cache of tokenised text when things go wrong: killed writers, full disks, several at a time, other versions."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dragoman_model.data import corpus as corpus_module
from dragoman_model.data import entry_writer, token_cache
from dragoman_model.data.entry_writer import FORMAT
from dragoman_model.data.file_lock import locked
from dragoman_model.data.prepare import prepare
from dragoman_model.data.token_cache import TokenCache
from dragoman_service.errors import InvalidInput
from support.cache_users import RECIPE, digest, prepare_and_see, prepare_together, prepare_without_flush
from support.killable import barrier, end_of, killed_at, start
from support.small_disk import fill, small_disk
from support.tiny_model import write_corpus
from support.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def tidied(cache: Path) -> list[str]:
    """Kinds of what is in the cache once somebody else has begun to write an entry."""
    with TokenCache(cache).writing("other"):
        pass
    return sorted(path.suffix or ("epoch" if "-" in path.name else "entry") for path in cache.iterdir())


@pytest.mark.slow
def test_a_writer_may_be_killed_before_anything_that_it_does_to_a_file(folder: Path) -> None:
    """Whatever is left, the next start has the same result, and nothing piles up."""
    expected = digest(prepare(RECIPE, folder))
    moment, ends = 0, list[int | None]()
    while not ends or ends[-1] != 0:
        moment += 1
        cache = folder / f"cache-{moment}"
        writer = functools.partial(prepare_without_flush, folder, cache)
        ends.append(end_of(start(killed_at(moment, cache, writer))))
        assert ends[-1] in (0, -signal.SIGKILL), moment
        assert prepare_without_flush(folder, cache) == expected, moment
        assert tidied(cache) == [".alias", "entry", "epoch"], moment
    assert moment > 25


def test_a_writer_may_be_killed_at_any_time(folder: Path) -> None:
    expected = digest(prepare(RECIPE, folder))
    began = time.monotonic()
    prepare_and_see(folder, folder / "cache-0")
    whole = time.monotonic() - began
    for number in range(1, 9):
        cache = folder / f"cache-{number}"
        process = start(functools.partial(prepare_and_see, folder, cache))
        time.sleep(whole * number / 8)
        process.kill()
        assert end_of(process) in (0, -signal.SIGKILL)
        assert prepare_and_see(folder, cache) == expected
        assert tidied(cache) == [".alias", "entry", "epoch"]


def test_starts_at_the_same_time_share_one_entry(folder: Path) -> None:
    """Two that learn the vocabulary, and two that are given it, which ask for the same entry in another way."""
    vocabulary = prepare(RECIPE, folder).tokenizer_model
    expected = digest(prepare(RECIPE, folder))
    for _ in range(3):
        gate = barrier(4)
        users = [functools.partial(prepare_together, folder, model, expected, gate) for model in (None, vocabulary) * 2]
        processes = [start(user) for user in users]
        assert [end_of(process) for process in processes] == [0] * 4
        written = (folder / "writes").read_text()
        assert written.count(".") <= 1, "two that ask for the same wait for each other"
        assert written.count(":") <= 1
        assert tidied(folder / "cache") == [".alias", "entry", "epoch"]
        (folder / "writes").unlink()
        shutil.rmtree(folder / "cache")


def test_who_waits_for_a_lock_is_told_and_gets_one_that_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The holder removes the file: who has opened that one must not take it for the lock."""
    path, order = tmp_path / "lock", list[str]()

    def wait(name: str) -> None:
        with locked(path):
            order.append(f"{name} in")
            time.sleep(0.01)
            order.append(f"{name} out")

    with caplog.at_level(logging.INFO), locked(path), locked(path, wait=False) as got:
        assert not got
        threads = [threading.Thread(target=wait, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        wait_until(lambda: caplog.text.count("waiting for another process") == 3)
    for thread in threads:
        thread.join()
    assert [entry.removesuffix(" in") + " out" for entry in order[::2]] == order[1::2]
    assert not path.exists()


def test_a_lock_is_one_thread_s_at_a_time_though_its_file_comes_and_goes(tmp_path: Path) -> None:
    inside, most = list[int](), list[int]()

    def work(number: int) -> None:
        for _ in range(100):
            with locked(tmp_path / "lock"):
                inside.append(number)
                time.sleep(0.0001)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (set(most), len(most)) == ({1}, 400)
    assert not list(tmp_path.iterdir())


def test_an_entry_of_another_format_is_made_anew_and_the_log_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected, cache = digest(prepare(RECIPE, folder)), folder / "cache"
    for module in (entry_writer, token_cache):
        monkeypatch.setattr(module, "FORMAT", FORMAT - 1)
    prepare_and_see(folder, cache)
    monkeypatch.undo()
    with caplog.at_level(logging.WARNING):
        assert prepare_and_see(folder, cache) == expected
    said = [message for message in caplog.messages if "format" in message]
    assert len(said) == 2, "one of the entry, and one of the epoch"
    for message in said:
        assert message.endswith(f"has format {FORMAT - 1}, while this version writes {FORMAT}, and is made again")
    assert tidied(cache) == [".alias", "entry", "epoch"]
    caplog.clear()
    assert prepare_and_see(folder, cache) == expected
    assert not caplog.messages


def test_a_full_disk_is_told_and_nothing_half_written_is_taken_for_whole(tmp_path: Path) -> None:
    """With room for one block, for two and so on, until there is enough."""
    write_corpus(tmp_path)
    expected = digest(prepare(RECIPE, tmp_path))
    blocks, messages = 0, list[str]()
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        while True:
            leave_room(disk, blocks)
            try:
                assert prepare_and_see(tmp_path, disk / "cache") == expected
                break
            except InvalidInput as error:
                messages.append(str(error))
                assert not list((disk / "cache").rglob("*.partial"))
            blocks += 2
        assert tidied(disk / "cache") == [".alias", "entry", "epoch"]
    assert len(messages) > 5
    named = rf"--cache: got '{re.escape(str(tmp_path / 'disk' / 'cache'))}'; allowed: a folder with room "
    for message in messages:
        assert re.match(named, message), message
    amounts = [
        re.search(r"for more than ([\d.]+) MB of this text \(the disk was full after these\)", m) for m in messages
    ]
    assert max(float(found[1]) for found in amounts if found) > 0


def leave_room(disk: Path, blocks: int) -> None:
    """Fill it but for so many blocks of 4,096 bytes."""
    fill(disk / "filler")
    os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - 4096 * blocks))


def test_a_file_that_changes_while_it_is_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = corpus_module.read_lines

    def changing(path: Path) -> Any:
        for line in genuine(path):
            yield line
            if path.name == "train.tsv":
                with path.open("a") as file:
                    file.write("one more\tnoch eins\n" if file.tell() < 20_000 else "")

    monkeypatch.setattr(corpus_module, "read_lines", changing)
    with pytest.raises(InvalidInput, match=r"corpus: got 'train\.tsv'; allowed: a file that does not change"):
        prepare(RECIPE, folder, None, folder / "cache")
    assert not list((folder / "cache").iterdir())
