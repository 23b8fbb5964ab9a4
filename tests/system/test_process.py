"""A real server process with a real model, driven as its users and operators do."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import (
    DeadlinePassed,
    InvalidRequest,
    ModelNotFound,
    ServerOverloaded,
    ServerUnavailable,
    TranslationError,
)
from dragoman_service.client.values import FinishReason, Options, Sampling, Translation
from support.server_process import START_SECONDS, ServerProcess, run_dragoman, server_process
from support.waiting import wait_until

PARAGRAPHS = "  The cat sees a dog.  It runs.\n\n\tA house by the river!\r\nIs the book green? \n"
LINES = [f"The cat number {number} reads a book." for number in range(1, 33)]
SLOW = Options(beam_size=1, min_length=60, max_length=60)
"""Keeps a sentence in the engine for 60 steps, whatever the model thinks of it."""


@pytest.fixture
def client(server: ServerProcess) -> Iterator[TranslationClient]:
    with TranslationClient(server.address) as client:
        yield client


def interrupted(stream: Iterator[str | Translation]) -> Iterator[str | Translation]:
    """Read a stream of which the end may be an error."""
    with suppress(TranslationError):
        yield from stream


def test_says_where_it_is_and_what_it_has(server: ServerProcess, client: TranslationClient) -> None:
    assert [line.split()[0] for line in server.lines] == ["model", "gRPC", "metrics", "ready"]
    (model,) = client.list_models()
    assert server.lines[0].startswith(f"model    {model.name} {model.version} ({model.language_pairs[0][0]} to ")
    assert model.max_source_tokens > 1


def test_paragraphs_keep_their_layout(client: TranslationClient) -> None:
    options = Options(max_length=30)
    (result,) = client.translate([PARAGRAPHS], options)
    assert result.sentences == 4
    sentences = ["The cat sees a dog.", "It runs.", "A house by the river!", "Is the book green?"]
    one, two, three, four = (translation.text for translation in client.translate(sentences, options))
    assert result.text == f"  {one}  {two}\n\n\t{three}\r\n{four} \n"


@pytest.mark.parametrize("beam_size", [1, 4])
def test_stream_is_the_same_translation(client: TranslationClient, beam_size: int) -> None:
    options = Options(beam_size=beam_size, max_length=30)
    (whole,) = client.translate([PARAGRAPHS], options)
    *chunks, result = client.translate_stream(PARAGRAPHS, options)
    assert isinstance(result, Translation)
    assert "".join(map(str, chunks)) == result.text == whole.text
    assert result.score == pytest.approx(whole.score)


def test_many_at_once_are_what_they_are_alone(client: TranslationClient) -> None:
    options = Options(beam_size=4, max_length=30, return_tokens=True)
    together = client.translate(LINES, options)
    alone = [client.translate([line], options)[0] for line in LINES[:4]]
    assert [t.hypotheses[0].tokens for t in together[:4]] == [t.hypotheses[0].tokens for t in alone]


def test_options_do_what_they_say(client: TranslationClient) -> None:
    text = LINES[0]
    (nbest,) = client.translate([text], Options(num_hypotheses=4, max_length=30))
    scores = [hypothesis.score for hypothesis in nbest.hypotheses]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    (cut,) = client.translate([text], Options(min_length=2, max_length=2, return_tokens=True, return_token_scores=True))
    assert cut.finish_reason is FinishReason.LENGTH
    assert len(cut.hypotheses[0].tokens) == len(cut.hypotheses[0].token_scores) == cut.target_tokens == 2
    sampling = Options(sampling=Sampling(seed=5, temperature=1.5), max_length=20)
    assert client.translate([text], sampling)[0].text == client.translate([text], sampling)[0].text
    (forced,) = client.translate([text], Options(max_length=20), target_prefixes=["Das Haus"])
    assert forced.text.startswith("Das Haus")


UNREADABLE = ("日本語のテキスト。", "ᚠᛇᚻ ქართული עברית", "e\u0301\u200d")
"""Texts whose letters the vocabulary cannot spell: they are returned as they are, with a warning."""


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " \n\t\n ",
        "***",
        "😀",
        "a\0b\x01c",
        "😀 yes 👩‍👩‍👧",
        *UNREADABLE,
    ],
)
def test_odd_text(client: TranslationClient, text: str) -> None:
    (result,) = client.translate([text], Options(beam_size=1, max_length=20))
    if not any(character.isalnum() for character in text):
        assert (result.text, result.sentences, result.finish_reason) == (text, 0, FinishReason.STOP)
    else:
        assert result.sentences == (0 if text in UNREADABLE else 1 + text.count("\0") + text.count("\1"))
        assert [warning.kind for warning in result.warnings if warning.kind == "SOURCE_NOT_READABLE"] == [
            "SOURCE_NOT_READABLE"
        ] * (text in UNREADABLE)
        assert result.text == text or text not in UNREADABLE
        assert [c for c in result.text if c in "\0\x01"] == [c for c in text if c in "\0\x01"]


def test_100_000_characters(client: TranslationClient) -> None:
    options = Options(beam_size=1, max_length=1)
    for text in ("x" * 100_000, "The cat. " * 1_000):
        (result,) = client.translate([text], options)
        assert result.source_tokens >= len(text) // 100
        assert result.sentences > 1
    with pytest.raises(InvalidRequest, match=r"texts\[0\].*100001.*100000"):
        client.translate(["x" * 100_001])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (Options(beam_size=0), InvalidRequest, "beam_size: got 0; allowed: 1 to 16"),
        (Options(beam_size=1000), InvalidRequest, "beam_size: got 1000"),
        (Options(beam_size=2, sampling=Sampling()), InvalidRequest, "beam_size"),
        (Options(min_length=5, max_length=4), InvalidRequest, "min_length"),
        (Options(max_length=1_000_000), InvalidRequest, "max_length"),
        (Options(model="nobody"), ModelNotFound, "there are: "),
        (Options(source_language="xx"), ModelNotFound, "there are: "),
        (Options(target_language="xx"), ModelNotFound, "there are: "),
    ],
)
def test_refusals_say_what_is_allowed(
    client: TranslationClient, options: Options, error: type[TranslationError], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.translate(["a"], options)


def test_empty_list_is_refused(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            translation_pb2_grpc.TranslationStub(channel).Translate(pb.TranslateRequest())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_client_gone_in_mid_stream_frees_the_slots(server: ServerProcess) -> None:
    with TranslationClient(server.address) as client:
        stream = client.translate_stream("\n".join(LINES), SLOW, deadline=START_SECONDS)
        assert next(stream)
        assert server.metrics()["dragoman_slots_used"] > 0
    server.wait_until_free()
    server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)


def test_deadline_too_short_frees_the_slots(server: ServerProcess, client: TranslationClient) -> None:
    with pytest.raises(DeadlinePassed):
        client.translate(LINES * 10, SLOW, deadline=0.2)
    server.wait_until_free()
    assert server.metrics()["dragoman_cancellations_total"] >= 1


def test_stock_health_and_reflection_clients(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "dragoman.v1.Translation"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=START_SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        described = pool.FindMessageTypeByName("dragoman.v1.TranslateRequest")
        assert "texts" in described.fields_by_name


def test_command_line(server: ServerProcess) -> None:
    done = run_dragoman(
        "translate", "--server", server.address, "--max-length", "20", text="\n".join([*LINES, "", "a"])
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(LINES) + 2
    assert done.stdout.splitlines()[len(LINES)] == ""
    streamed = run_dragoman("translate", "--server", server.address, "--max-length", "20", "--stream", *LINES[:2])
    assert streamed.stdout.splitlines() == done.stdout.splitlines()[:2]
    assert run_dragoman("models", "--server", server.address).returncode == 0


def test_full_queue(bundle: Path) -> None:
    with server_process([bundle], "--max-queue", "1") as server, TranslationClient(server.address) as client:
        stream = client.translate_stream("\n".join(LINES), SLOW, deadline=START_SECONDS)
        assert next(stream)
        with pytest.raises(ServerOverloaded) as caught:
            client.translate(["The cat."])
        assert caught.value.retry_after > 0
        stream.close()
        server.wait_until_free()
        # The rows are free before the call has ended, and its permit comes back with its end.
        server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
        assert client.translate(["The cat."], Options(min_length=5, max_length=5))[0].target_tokens == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_runs_and_ends_with_status_0(bundle: Path, number: int) -> None:
    with server_process([bundle], "--max-rows", "4") as server, TranslationClient(server.address) as client:
        stream = client.translate_stream("\n".join(LINES), SLOW, deadline=START_SECONDS)
        chunks = [next(stream)]
        server.process.send_signal(number)
        wait_until_not_serving(server)
        with pytest.raises(ServerUnavailable) as refused:
            client.translate(["a"])
        *rest, result = stream
        assert isinstance(result, Translation)
        assert "".join(map(str, chunks + rest)) == result.text
        assert result.sentences == len(LINES)
        assert server.process.wait(START_SECONDS) == 0
        assert server.errors == []
        told = f"a new call is refused ({refused.value.code.name}), {result.sentences} sentences that ran are delivered"
        print(f"after {signal.Signals(number).name}: {told}, status {server.process.returncode}")


def wait_until_not_serving(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        request, not_serving = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.NOT_SERVING
        wait_until(lambda: check(request, timeout=START_SECONDS).status == not_serving)


def test_grace_is_bounded(bundle: Path) -> None:
    with server_process([bundle], "--grace", "0.1") as server, TranslationClient(server.address) as client:
        stream = client.translate_stream("\n".join(LINES * 20), SLOW, deadline=START_SECONDS)
        assert next(stream)
        server.process.terminate()
        assert not any(isinstance(item, Translation) for item in interrupted(stream))
        assert server.process.wait(START_SECONDS) == 0


def test_second_signal_ends_at_once(bundle: Path) -> None:
    with server_process([bundle], "--grace", "600") as server, TranslationClient(server.address) as client:
        stream = client.translate_stream("\n".join(LINES * 20), SLOW, deadline=START_SECONDS)
        assert next(stream)
        reader = threading.Thread(target=lambda: list(interrupted(stream)))
        reader.start()
        server.process.terminate()
        wait_until_not_serving(server)
        server.process.terminate()
        assert server.process.wait(START_SECONDS) == 128 + signal.SIGTERM
        reader.join(START_SECONDS)
        assert not reader.is_alive()


def assert_fails(*arguments: str | Path, parts: tuple[str, ...], status: int = 1) -> None:
    done = run_dragoman("serve", *arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_busy_port(bundle: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--metrics-port" if option == "--port" else "--port"
        assert_fails(bundle, other, "0", option, port, parts=(option, port, "in use"))


def test_second_server_on_the_same_port(server: ServerProcess, bundle: Path) -> None:
    port = server.address.rsplit(":", 1)[1]
    assert_fails(bundle, "--metrics-port", "0", "--port", port, parts=("--port", port, "in use"))


def test_missing_port(bundle: Path) -> None:
    assert_fails(bundle, "--port", parts=("--port", "expected one argument"), status=2)


def test_host_that_is_not_ours(bundle: Path) -> None:
    assert_fails(bundle, "--host", "192.0.2.1", "--metrics-port", "0", parts=("192.0.2.1",))


def test_every_problem_of_every_bundle_at_once(bundle: Path, tmp_path: Path) -> None:
    tampered, truncated, missing = (tmp_path / name for name in ("tampered", "truncated", "missing"))
    for copy in (tampered, truncated):
        shutil.copytree(bundle, copy)
    with (tampered / "encoder.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    (tampered / "tokenizer.model").unlink()
    with (truncated / "decoder.onnx").open("r+b") as file:
        file.truncate(1000)
    parts = ("encoder.onnx", "tokenizer.model", "decoder.onnx", str(tampered), str(truncated), str(missing))
    assert_fails(tampered, truncated, missing, "--port", "0", "--metrics-port", "0", parts=parts)


def test_bundle_of_the_future(bundle: Path, tmp_path: Path) -> None:
    future = tmp_path / "future"
    shutil.copytree(bundle, future)
    manifest = json.loads((future / "manifest.json").read_text())
    (future / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    assert_fails(future, "--port", "0", "--metrics-port", "0", parts=("format_version", "99"))


def test_wrong_golden_sentences_are_not_served(bundle: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(bundle, wrong)
    golden = json.loads((wrong / "golden.json").read_text())
    golden["sentences"][0]["score"] -= 1
    (wrong / "golden.json").write_text(json.dumps(golden))
    manifest = json.loads((wrong / "manifest.json").read_text())
    manifest["files"]["golden.json"] = hashlib.sha256((wrong / "golden.json").read_bytes()).hexdigest()
    (wrong / "manifest.json").write_text(json.dumps(manifest))
    assert_fails(wrong, "--port", "0", "--metrics-port", "0", parts=("golden sentence", "score"))
