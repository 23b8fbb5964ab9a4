"""Versions of models go in and out of a real server process, while calls run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.admin import AdminClient, Version
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import InvalidRequest, ModelNotFound, NotPossibleNow
from dragoman_service.client.values import Options, Translation
from support.repositories import add_version, rewrite_manifest, spoil_golden
from support.server_process import START_SECONDS, ServerProcess, run_dragoman, server_process
from support.traffic import OPTIONS, traffic, translations
from support.waiting import wait_until

SETTLING = 30
"""Reloads under load until the allocator's arenas have their size."""
SETTLED_BYTES = 24 * 2**20
"""By how much memory may differ, after a hundred reloads, from what it was once it had settled."""


@dataclass
class Site:
    """A server with a repository of its own."""

    server: ServerProcess
    admin: AdminClient
    repository: Path
    bundle: Path
    address: str
    """Of the admin interface."""

    def add(self, version: str, name: str = "tiny") -> Path:
        return add_version(self.repository, self.bundle, name, version)

    def states_after_refresh(self) -> dict[str, str]:
        self.admin.refresh()
        return self.states()

    def states(self) -> dict[str, str]:
        return {version.version: shown(version) for version in self.admin.versions()}


def shown(version: Version) -> str:
    return " ".join([version.state, *["default"] * version.is_default, *(alias for alias, _ in version.aliases)])


@contextmanager
def site(bundle: Bundle, folder: Path, *options: str) -> Iterator[Site]:
    repository = folder / "models"
    add_version(repository, bundle.path, "tiny", "1")
    address = f"unix:{folder}/admin.sock"
    arguments = ("--repository", str(repository), "--admin", address, "--watch", "0", *options)
    with server_process([], *arguments) as server, AdminClient(address, deadline=START_SECONDS) as admin:
        yield Site(server, admin, repository, bundle.path, address)


@pytest.fixture
def running(tiny_bundle: Bundle, tmp_path: Path) -> Iterator[Site]:
    with site(tiny_bundle, tmp_path) as made:
        yield made


def version_for(address: str, model: str = "") -> str:
    with TranslationClient(address) as client:
        return client.translate(["The cat."], Options(model=model, max_length=5))[0].version


@pytest.mark.parametrize("reloads", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_reloads_under_load_fail_no_call_and_leave_no_memory(running: Site, reloads: int) -> None:
    expected = translations(running.server.address)
    with traffic(running.server.address, expected, clients=4) as seen:
        memory: list[float] = []
        for number in range(2, reloads + 2):
            running.add(str(number))
            assert running.states_after_refresh()[str(number)] == "serving default"
            shutil.rmtree(running.repository / "tiny" / str(number - 1))
            memory.append(running.server.metrics()["process_resident_memory_bytes"])
        seen.wait_for(5)
    least = [min(memory[start : start + 20]) for start in range(0, reloads, 10)]
    print(f"{reloads} reloads, {seen}; memory in MiB: {[round(it / 2**20) for it in least]}")
    assert not seen.problems
    running.server.wait_for_metrics(lambda m: m["dragoman_model_info"] == 1)
    metrics = running.server.metrics()
    assert metrics["dragoman_model_loads_total"] == reloads + 1
    assert not metrics.get("dragoman_rejections_total")
    # The least of each: on a busy machine a sample may see three versions at once. A leak raises the least, too.
    if reloads > SETTLING:
        assert min(memory[-20:]) - min(memory[SETTLING : SETTLING + 20]) < SETTLED_BYTES


def test_calls_finish_on_the_version_they_began_with(running: Site) -> None:
    with TranslationClient(running.server.address) as client:
        text = "\n".join(f"The cat number {number} reads a book." for number in range(40))
        stream = client.translate_stream(text, Options(beam_size=1, min_length=60, max_length=60))
        assert next(stream)
        running.add("2")
        assert running.states_after_refresh() == {"1": "available", "2": "serving default"}
        assert version_for(running.server.address) == "2"
        *_, result = stream
        assert isinstance(result, Translation)
        assert result.version == "1"
    running.server.wait_for_metrics(lambda metrics: metrics["dragoman_model_info"] == 1)


def test_a_bad_bundle_leaves_the_old_one_serving_and_says_why(running: Site) -> None:
    expected = translations(running.server.address, 10)
    with traffic(running.server.address, expected, clients=2) as seen:
        spoil_golden(running.add("2"))
        with (running.add("3") / "weights.safetensors").open("r+b") as weights:
            weights.write(b"\xff" * 64)
        rewrite_manifest(running.add("4"), version="5")
        states = running.states_after_refresh()
        seen.wait_for(3)
    assert states == {"1": "serving default", "2": "failed", "3": "failed", "4": "failed"}
    reasons = {version.version: version.reason for version in running.admin.versions()}
    assert "golden sentence" in reasons["2"]
    assert "weights.safetensors: SHA-256" in reasons["3"]
    assert "version: got '5'; allowed: '4'" in reasons["4"]
    log = "".join(running.server.errors)
    assert all(f"tiny version {number} is not taken into service" in log for number in (2, 3, 4))
    assert not seen.problems
    running.server.wait_for_metrics(lambda metrics: metrics["dragoman_model_loads_total"] == 4)
    with pytest.raises(NotPossibleNow, match="golden sentence"):
        running.admin.load("tiny", "2")
    running.admin.refresh()
    assert running.server.metrics()["dragoman_model_loads_total"] == 5, "tried again without being asked"


def test_roll_out_to_a_few_then_to_all_and_back(running: Site) -> None:
    running.admin.set_alias("tiny", "stable", "1")
    running.add("2")
    running.admin.set_alias("tiny", "canary", "2", share=0.3)
    assert running.states() == {"1": "serving default stable", "2": "serving canary"}
    with TranslationClient(running.server.address) as client:
        found = Counter(client.translate(["a"], Options(max_length=1))[0].version for _ in range(300))
        assert 40 <= found["2"] <= 140, found
        for name, version in (("tiny@canary", "2"), ("tiny@1", "1"), ("tiny@stable", "1"), ("tiny@2", "2")):
            assert client.translate(["a"], Options(model=name, max_length=1))[0].version == version
        with pytest.raises(ModelNotFound, match=r"no version or alias '7' of model tiny .* there are: 1, 2, canary"):
            client.translate(["a"], Options(model="tiny@7"))
        names = [(model.version, model.is_default, model.aliases) for model in client.list_models()]
        assert names == [("1", True, ("stable",)), ("2", False, ("canary",))]
    running.admin.set_alias("tiny", "stable", "2")
    running.admin.delete_alias("tiny", "canary")
    assert running.states() == {"1": "available", "2": "serving default stable"}
    running.admin.set_alias("tiny", "stable", "1")
    assert version_for(running.server.address) == "1"
    kept = json.loads((running.repository / "tiny" / "aliases.json").read_text())
    assert kept == {"stable": {"version": "1", "share": 0.0}}


def test_what_cannot_be_asked_says_why(running: Site) -> None:
    running.admin.set_alias("tiny", "stable", "1")
    with pytest.raises(NotPossibleNow, match="version 1 of tiny has the alias stable"):
        running.admin.unload("tiny", "1")
    with pytest.raises(ModelNotFound, match="no version '9' of tiny in the repository; there are: 1"):
        running.admin.set_alias("tiny", "stable", "9")
    with pytest.raises(ModelNotFound, match="no model 'nobody' in the repository; there are: tiny"):
        running.admin.load("nobody")
    with pytest.raises(InvalidRequest, match="share"):
        running.admin.set_alias("tiny", "canary", "1", share=1.5)
    with pytest.raises(InvalidRequest, match="alias"):
        running.admin.set_alias("tiny", "../canary", "1")
    assert running.states() == {"1": "serving default stable"}


def test_unloaded_until_asked_for_again(running: Site) -> None:
    running.add("2")
    assert running.states_after_refresh()["2"] == "serving default"
    running.admin.unload("tiny", "2")
    assert running.states_after_refresh() == {"1": "serving default", "2": "unloaded"}
    running.admin.unload("tiny")
    with TranslationClient(running.server.address) as client, pytest.raises(ModelNotFound, match="there are: none"):
        client.translate(["a"], Options(model="tiny"))
    assert run_dragoman("models", "load", "tiny", "--admin", running.address).returncode == 0
    assert version_for(running.server.address) == "2"


def test_a_bundle_deleted_while_it_serves_goes_on_serving(running: Site) -> None:
    expected = translations(running.server.address, 10)
    with traffic(running.server.address, expected, clients=2) as seen:
        shutil.rmtree(running.repository / "tiny")
        running.admin.refresh()
        seen.wait_for(5)
        shutil.rmtree(running.repository)
        running.admin.refresh()
        seen.wait_for(5)
    assert not seen.problems
    assert running.server.metrics()["dragoman_repository_errors_total"] == 1
    assert "repository" in "".join(running.server.errors)


def test_the_folder_is_watched_and_models_have_slots_of_their_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with site(tiny_bundle, tmp_path, "--watch", "0.2") as running:
        (running.repository / "small").mkdir()
        (running.repository / "small" / "serving.toml").write_text("max_rows = 4\nlanes = 1\n")
        running.add("1", name="small")
        both = ["serving default"] * 2
        wait_until(lambda: [shown(version) for version in running.admin.versions()] == both, running.admin.versions)
        with TranslationClient(running.server.address) as client:
            beams = {model.name: model.max_beam_size for model in client.list_models()}
            assert beams == {"small": 4, "tiny": 16}
            whole = client.translate(["The cat."], OPTIONS)[0]
            other = client.translate(["The cat."], Options(model="small", max_length=30))[0]
            assert (other.text, other.model) == (whole.text, "small")
        (running.repository / "small" / "serving.toml").write_text("max_roes = 4\n")
        wait_until(lambda: any(version.reason for version in running.admin.versions()), running.admin.versions)
        (small, _) = running.admin.versions()
        assert (small.state, "max_roes" in small.reason) == ("serving", True)


def test_a_server_waits_for_its_first_model_and_says_so(tiny_bundle: Bundle, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    with server_process([], "--repository", str(repository), "--watch", "0.1") as server:
        assert server.page("/ready") == (503, "no model is in service\n")
        assert server.page("/live") == (200, "alive\n")
        with TranslationClient(server.address) as client, pytest.raises(ModelNotFound):
            client.translate(["a"])
        done = run_dragoman("models", "publish", tiny_bundle.path, str(repository))
        assert (done.returncode, done.stdout) == (0, f"{repository}/tiny/1\n")
        wait_until(lambda: server.page("/ready")[0] == 200, lambda: server.errors)
        assert version_for(server.address) == "1"


def test_the_admin_interface_is_closed_unless_asked_for(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with server_process([tiny_bundle.path]) as server:
        done = run_dragoman("models", "status", "--admin", server.address)
        assert done.returncode == 1
        assert "Method not found" in done.stderr
    address = f"unix:{tmp_path}/admin.sock"
    with server_process([tiny_bundle.path], "--admin", address):
        done = run_dragoman("models", "status", "--admin", address)
        assert (done.returncode, "start it with --repository" in done.stderr) == (1, True)


@pytest.mark.parametrize("slow", ["the first", "the second"])
def test_a_load_that_takes_minutes_does_not_keep_the_server_from_ending(
    tiny_bundle: Bundle, tmp_path: Path, slow: str
) -> None:
    """A signal is obeyed within the grace period, whatever a thread is loading."""
    repository = tmp_path / "models"
    add_version(repository, tiny_bundle.path, "tiny", "1")
    script = f"""
import sys, time
from dragoman_service.cli.main import main
from dragoman_service.repository import loading

load, calls = loading.load_version, []

def slow(*arguments, **settings):
    calls.append(arguments)
    if len(calls) >= {1 if slow == "the first" else 2}:
        print("loading", flush=True)
        time.sleep(600)
    return load(*arguments, **settings)

loading.load_version = slow
options = ["--port", "0", "--metrics-port", "0", "--watch", "0.1", "--grace", "1", "--threads", "1"]
sys.exit(main(["serve", "--repository", {str(repository)!r}, *options]))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line == "ready\n":
                add_version(repository, tiny_bundle.path, "tiny", "2")
            if line == "loading\n":
                break
        process.terminate()
        assert process.wait(START_SECONDS) == 0
    finally:
        process.kill()
        process.stdout.close()
