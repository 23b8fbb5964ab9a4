"""A server that asks for tokens, over the wire with stock clients. In front of a scripted engine."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from dragoman_protos.admin.v1 import admin_pb2, admin_pb2_grpc
from dragoman_protos.metadata import DETAILS_KEY
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.languages import Languages
from dragoman_service.client import errors as client_errors
from dragoman_service.server.reflection import V1_NAME, V1ALPHA_NAME
from support.fake_workers import FakeWorkers, served
from support.operated import operated
from support.ports import free_ports
from support.server_thread import ServerThread, refusal, serving
from support.tokens import add_token, bearer, revoke_token
from support.waiting import wait_until

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
FORBIDDEN = grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

EN_DE = Languages((("en", "de"),))

Metadata = tuple[tuple[str, str], ...]
Call = Callable[[grpc.Channel, Metadata], object]


def translate(channel: grpc.Channel, metadata: Metadata, text: str = "a", model: str = "") -> str:
    request = pb.TranslateRequest(texts=[text], model=model)
    answer = translation_pb2_grpc.TranslationStub(channel).Translate(request, metadata=metadata, timeout=60)
    return f"{answer.model}: {answer.translations[0].hypotheses[0].text}"


def stream(channel: grpc.Channel, metadata: Metadata, text: str = "a", model: str = "") -> str:
    request = pb.TranslateStreamRequest(text=text, model=model)
    call = translation_pb2_grpc.TranslationStub(channel).TranslateStream(request, metadata=metadata, timeout=60)
    result = list(call)[-1].result
    return f"{result.model}: {result.translation.hypotheses[0].text}"


def list_models(channel: grpc.Channel, metadata: Metadata) -> list[str]:
    stub = translation_pb2_grpc.TranslationStub(channel)
    return [model.name for model in stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=60).models]


def detect(channel: grpc.Channel, metadata: Metadata, text: str = "a") -> set[str]:
    stub = translation_pb2_grpc.TranslationStub(channel)
    answer = stub.DetectLanguage(pb.DetectLanguageRequest(texts=[text]), metadata=metadata, timeout=60)
    return {candidate.language for candidate in answer.detections[0].candidates}


def score(channel: grpc.Channel, metadata: Metadata, model: str = "") -> str:
    stub = translation_pb2_grpc.TranslationStub(channel)
    request = pb.ScoreRequest(texts=["a"], translations=["A"], model=model)
    return str(stub.Score(request, metadata=metadata, timeout=60).scores[0].model)


def reflect(name: str) -> Call:
    """Ask a version of reflection for the services of the server."""

    def ask(channel: grpc.Channel, metadata: Metadata) -> list[str]:
        (answer,) = questions(channel, name, metadata, reflection_pb2.ServerReflectionRequest(list_services=""))
        return [service.name for service in answer.list_services_response.service]

    return ask


def questions(
    channel: grpc.Channel, name: str, metadata: Metadata, *asked: reflection_pb2.ServerReflectionRequest
) -> list[Any]:
    method = channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(method(iter(asked), metadata=metadata, timeout=60))


def bad_bytes(channel: grpc.Channel, metadata: Metadata) -> None:
    method = channel.unary_unary("/dragoman.v1.Translation/Translate", lambda it: it, lambda it: it)
    method(b"\xff" * 9, metadata=metadata, timeout=60)


PUBLIC: dict[str, Call] = {
    "Translate": translate,
    "TranslateStream": stream,
    "ListModels": list_models,
    "DetectLanguage": detect,
    "Score": score,
}
REFLECTION = {"v1": reflect(V1_NAME), "v1alpha": reflect(V1ALPHA_NAME)}
ADMIN = {
    "ListVersions": admin_pb2.ListVersionsRequest(),
    "Refresh": admin_pb2.RefreshRequest(),
    "LoadModel": admin_pb2.LoadModelRequest(model="m", version="1"),
    "UnloadModel": admin_pb2.UnloadModelRequest(model="m", version="1"),
    "SetAlias": admin_pb2.SetAliasRequest(model="m", alias="a", version="1"),
    "DeleteAlias": admin_pb2.DeleteAliasRequest(model="m", alias="a"),
}


@dataclass
class Guarded:
    """A server with tokens, and a channel to it."""

    running: ServerThread
    channel: grpc.Channel
    path: Path
    engine: FakeWorkers
    tokens: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **rights: Any) -> Metadata:
        self.tokens[name] = add_token(self.path, name, **rights)
        wait_until(lambda: self.running.metrics.registry.get_sample_value(*series(name)) is not None)
        return bearer(self.tokens[name])


def series(name: str) -> tuple[str, dict[str, str]]:
    return "dragoman_token_requests_total", {"token": name}


@contextlib.contextmanager
def guarded(folder: Path, *, held: bool = False, languages: Languages = EN_DE, **config: Any) -> Iterator[Guarded]:
    path = folder / "tokens.json"
    shop = add_token(path, "shop")
    engine = FakeWorkers(held=held)
    models = [served(engine), served(FakeWorkers(), name="quiet", languages=languages)]
    with serving(models, tokens=path, **config) as running, grpc.insecure_channel(running.address) as channel:
        yield Guarded(running, channel, path, engine, {"shop": shop})
        engine.release()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path) as running:
        yield running


def reason(error: grpc.RpcError) -> str:
    packed = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert packed.details[0].Unpack(info)
    assert info.domain == "dragoman"
    return info.reason


def retry_delay(error: grpc.RpcError) -> float:
    packed = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    info = error_details_pb2.RetryInfo()
    assert packed.details[1].Unpack(info)
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9


@pytest.mark.parametrize("call", [*PUBLIC.values(), *REFLECTION.values(), bad_bytes], ids=[*PUBLIC, *REFLECTION, "bad"])
def test_every_method_needs_a_token(server: Guarded, call: Call) -> None:
    metrics = server.running.metric
    for metadata in ((), bearer("x"), (("authorization", "Basic eDp5"),), (("x-token", server.tokens["shop"]),)):
        error = refusal(lambda metadata=metadata: call(server.channel, metadata))  # type: ignore[misc]
        assert error.code() is UNAUTHENTICATED
        assert reason(error) == "UNAUTHENTICATED"
        assert isinstance(client_errors.error_of(error), client_errors.Unauthenticated)
    assert metrics("dragoman_rejections_total", reason="unauthenticated") == 4
    assert not server.engine.submitted
    if call is bad_bytes:
        assert refusal(lambda: call(server.channel, bearer(server.tokens["shop"]))).code().name == "INVALID_ARGUMENT"
    else:
        assert call(server.channel, bearer(server.tokens["shop"]))


def test_health_needs_no_token(server: Guarded) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("call", PUBLIC.values(), ids=PUBLIC)
def test_a_token_without_the_scope(server: Guarded, call: Call) -> None:
    metadata = server.add("boss", scopes=("admin",))
    error = refusal(lambda: call(server.channel, metadata))
    assert (error.code(), reason(error)) == (FORBIDDEN, "FORBIDDEN")
    assert error.details() == "token boss has no scope translate"
    assert isinstance(client_errors.error_of(error), client_errors.Forbidden)
    assert server.running.metric("dragoman_rejections_total", reason="forbidden") == 1


@pytest.mark.parametrize("call", PUBLIC.values(), ids=PUBLIC)
def test_an_expired_token(server: Guarded, call: Call) -> None:
    end = datetime(2020, 1, 1, tzinfo=UTC)
    metadata = server.add("old", expires=end)
    error = refusal(lambda: call(server.channel, metadata))
    assert error.code() is UNAUTHENTICATED
    assert error.details() == "token old expired at 2020-01-01 00:00:00 UTC"


@pytest.mark.parametrize("call", [translate, stream])
def test_a_token_has_its_models(server: Guarded, call: Callable[..., str]) -> None:
    metadata = server.add("narrow", models=("quiet",))
    assert call(server.channel, metadata) == "quiet: A"  # the default model is another
    assert call(server.channel, metadata, model="quiet@1") == "quiet: A"
    assert call(server.channel, bearer(server.tokens["shop"])) == "loud: A"
    messages = set()
    for model in ("loud", "loud@1", "nothing"):
        error = refusal(lambda model=model: call(server.channel, metadata, model=model))  # type: ignore[misc]
        assert error.code() is FORBIDDEN
        messages.add(error.details().replace("nothing", "loud"))
    assert messages == {"token narrow may not use model 'loud'; it may use: quiet"}
    assert not [it for it in server.engine.submitted if it.client == "narrow"]


def test_a_token_does_not_hear_of_other_models(server: Guarded) -> None:
    metadata = server.add("narrow", models=("quiet", "later"))
    assert list_models(server.channel, metadata) == ["quiet"]
    assert list_models(server.channel, bearer(server.tokens["shop"])) == ["loud", "quiet"]
    stub = translation_pb2_grpc.TranslationStub(server.channel)
    for request in (pb.TranslateRequest(texts=["a"], source_language="xx"), pb.TranslateRequest(model="later")):
        error = refusal(lambda request=request: stub.Translate(request, metadata=metadata))  # type: ignore[misc]
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "loud" not in error.details()


def test_a_token_does_not_hear_of_the_languages_of_other_models(tmp_path: Path) -> None:
    with guarded(tmp_path, languages=Languages((("fr", "ko"),))) as server:
        assert detect(server.channel, server.add("narrow", models=("quiet",))) == {"fr", "ko"}
        assert detect(server.channel, bearer(server.tokens["shop"])) == {"en", "de", "fr", "ko"}


def test_a_text_whose_language_is_detected_counts_in_quotas(server: Guarded) -> None:
    metadata = server.add("small", requests_per_minute=2, characters_per_minute=20)
    assert detect(server.channel, metadata, "a" * 15) == {"en", "de"}
    assert refusal(lambda: detect(server.channel, metadata, "a" * 20)).code() is EXHAUSTED
    assert server.running.metric("dragoman_token_characters_total", token="small") == 15


def test_the_client_of_a_call_is_its_token(tmp_path: Path) -> None:
    with guarded(tmp_path, client_header="x-tenant") as server:
        translate(server.channel, (*bearer(server.tokens["shop"]), ("x-tenant", "other")))
        stream(server.channel, (*bearer(server.tokens["shop"]), ("x-tenant", "other")))
        assert [request.client for request in server.engine.submitted] == ["shop", "shop"]


def test_quotas_over_the_wire(server: Guarded) -> None:
    metadata = server.add("small", requests_per_minute=3, characters_per_minute=20)
    assert translate(server.channel, metadata, "a" * 15) == f"loud: {'A' * 15}"
    error = refusal(lambda: stream(server.channel, metadata, "a" * 20))
    assert (error.code(), reason(error)) == (EXHAUSTED, "QUOTA_EXCEEDED")
    assert 40 < retry_delay(error) <= 45
    seen = client_errors.error_of(error)
    assert isinstance(seen, client_errors.ServerOverloaded)
    assert seen.retry_after == retry_delay(error)
    assert server.running.metric("dragoman_rejections_total", reason="quota_exceeded") == 1
    assert server.running.metric("dragoman_token_quota_refusals_total", token="small") == 1
    error = refusal(lambda: translate(server.channel, metadata, "ä" * 21))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "allowed: at most 20, which token small may send in a minute" in error.details()
    list_models(server.channel, metadata)
    list_models(server.channel, metadata)
    assert refusal(lambda: list_models(server.channel, metadata)).code() is EXHAUSTED
    assert server.running.metric("dragoman_token_requests_total", token="small") == 3
    assert server.running.metric("dragoman_token_characters_total", token="small") == 15
    assert translate(server.channel, bearer(server.tokens["shop"]), "a" * 90)


def test_calls_at_the_same_time_over_the_wire(tmp_path: Path) -> None:
    with guarded(tmp_path, held=True) as server:
        metadata = server.add("two", concurrent=2)
        stub = translation_pb2_grpc.TranslationStub(server.channel)
        request = pb.TranslateRequest(texts=["a"])
        running = [stub.Translate.future(request, metadata=metadata) for _ in range(2)]
        wait_until(lambda: server.engine.running == 2)
        error = refusal(lambda: stub.Translate(request, metadata=metadata))
        assert (error.code(), reason(error), retry_delay(error)) == (EXHAUSTED, "QUOTA_EXCEEDED", 1.0)
        running[0].cancel()
        wait_until(lambda: server.engine.running == 1)
        again = stub.Translate.future(request, metadata=metadata)
        wait_until(lambda: server.engine.running == 2)
        server.engine.release()
        assert again.result(60)
        assert running[1].result(60)


def test_an_overload_does_not_use_up_a_quota(server: Guarded) -> None:
    metadata = server.add("one", requests_per_minute=1)
    server.engine.refuse_after = 0
    for _ in range(3):
        error = refusal(lambda: translate(server.channel, metadata))
        assert (error.code(), reason(error)) == (EXHAUSTED, "OVERLOADED")
    server.engine.refuse_after = None
    assert translate(server.channel, metadata) == "loud: A"
    assert reason(refusal(lambda: translate(server.channel, metadata))) == "QUOTA_EXCEEDED"


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_that_has_begun_ends(tmp_path: Path, how: str) -> None:
    """The token is looked at when a call begins; the next call is refused."""
    with guarded(tmp_path, held=True) as server:
        end = datetime.now(UTC) + timedelta(seconds=2)
        metadata = server.add("gone", **({"expires": end} if how == "expired" else {}))
        stub = translation_pb2_grpc.TranslationStub(server.channel)
        call = stub.TranslateStream(pb.TranslateStreamRequest(text="ab"), metadata=metadata, timeout=60)
        assert next(call).chunk == "A"
        if how == "revoked":
            revoke_token(server.path, "gone")
        wait_until(lambda: refused(lambda: list_models(server.channel, metadata)))
        server.engine.release()
        assert list(call)[-1].result.translation.hypotheses[0].text == "AB"


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except grpc.RpcError as error:
        assert error.code() is UNAUTHENTICATED  # noqa: PT017
        return True
    return False


def test_an_open_reflection_call_is_checked_at_every_question(server: Guarded) -> None:
    metadata = server.add("curious")
    more = threading.Event()

    def ask() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        more.wait(60)
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    method = server.channel.stream_stream(
        f"/{V1_NAME}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method(ask(), metadata=metadata, timeout=60)
    assert next(call)
    revoke_token(server.path, "curious")
    wait_until(lambda: refused(lambda: list_models(server.channel, metadata)))
    more.set()
    assert refusal(lambda: next(call)).code() is UNAUTHENTICATED


def test_neither_log_nor_metrics_have_a_token(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shop = server.tokens["shop"]
    metadata = server.add("boss", scopes=("admin",))
    wrong = shop[:-4] + "beef"
    for call in PUBLIC.values():
        call(server.channel, bearer(shop))
        refusal(lambda call=call: call(server.channel, bearer(wrong)))  # type: ignore[misc]
        refusal(lambda call=call: call(server.channel, (("authorization", shop),)))  # type: ignore[misc]
        refusal(lambda call=call: call(server.channel, metadata))  # type: ignore[misc]
    refusal(lambda: translate(server.channel, bearer(shop), model="nothing"))
    server.path.write_text(server.path.read_text().replace('"sha256"', '"hash"'))
    wait_until(lambda: server.running.metric("dragoman_token_file_damaged") == 1)
    assert "Translate of boss ended with PERMISSION_DENIED, request" in caplog.text
    assert "Translate of shop ended with NOT_FOUND, request" in caplog.text
    kept = server.running.page("/metrics")[1] + caplog.text
    assert 'dragoman_token_requests_total{token="shop"} 6.0' in kept
    for token in [shop, wrong, *server.tokens.values()]:
        assert token.split("_")[2] not in kept
        assert token.split("_")[1] not in kept
    assert not [name for name in server.path.read_text().split('"') if len(name) == 64 and name in kept]


@pytest.mark.parametrize("call", REFLECTION.values(), ids=REFLECTION)
def test_reflection_of_both_versions(call: Call, tmp_path: Path) -> None:
    with serving([served(FakeWorkers())]) as server, grpc.insecure_channel(server.address) as channel:
        assert call(channel, ()) == [
            "dragoman.v1.Glossaries",
            "dragoman.v1.Translation",
            "google.cloud.translation.v3.TranslationService",
            "google.longrunning.Operations",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "nvidia.riva.nmt.RivaTranslation",
        ]
        for name in (V1_NAME, V1ALPHA_NAME):
            (answer,) = questions(
                channel, name, (), reflection_pb2.ServerReflectionRequest(file_containing_symbol=V1_NAME)
            )
            (file,) = answer.file_descriptor_response.file_descriptor_proto
            assert b"grpc.reflection.v1.ServerReflectionRequest" in file
            assert b"v1alpha" not in file
    with serving([served(FakeWorkers())], reflection=False) as server, grpc.insecure_channel(server.address) as channel:
        assert refusal(lambda: call(channel, ())).code() is grpc.StatusCode.UNIMPLEMENTED
        assert translate(channel, ()) == "loud: A"


def administer(channel: grpc.Channel, method: str, metadata: Metadata) -> object:
    return getattr(admin_pb2_grpc.ModelAdminStub(channel), method)(ADMIN[method], metadata=metadata, timeout=60)


def test_the_admin_interface_on_tcp_needs_the_scope(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    shop, boss = add_token(path, "shop"), add_token(path, "boss", scopes=("admin",))
    admin = f"127.0.0.1:{free_ports(1)[0]}"
    with operated(tmp_path, "1", "2", tokens=path, admin=admin) as server, grpc.insecure_channel(admin) as channel:
        for method in ADMIN:
            for metadata in ((), bearer("x")):
                error = refusal(lambda m=method, it=metadata: administer(channel, m, it))  # type: ignore[misc]
                assert (error.code(), reason(error)) == (UNAUTHENTICATED, "UNAUTHENTICATED")
            error = refusal(lambda m=method: administer(channel, m, bearer(shop)))  # type: ignore[misc]
            assert (error.code(), error.details()) == (FORBIDDEN, "token shop has no scope admin")
            assert administer(channel, method, bearer(boss))
        for call in REFLECTION.values():
            assert refusal(lambda call=call: call(channel, ())).code() is UNAUTHENTICATED  # type: ignore[misc]
            assert call(channel, bearer(boss))
        assert server.running.metric("dragoman_rejections_total", reason="forbidden") == len(ADMIN)


def test_the_admin_interface_on_a_socket_is_open_to_its_users(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    add_token(path, "shop")
    with operated(tmp_path, "1", "2", tokens=path) as server, grpc.insecure_channel(server.admin) as channel:
        for method in ADMIN:
            assert administer(channel, method, ())
        assert REFLECTION["v1"](channel, ())
        with grpc.insecure_channel(server.address) as public:
            assert refusal(lambda: list_models(public, ())).code() is UNAUTHENTICATED
