"""Whatever bytes arrive for the interfaces of others: an answer, or a status that says what is wrong, and no harm."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dragoman_protos.v1 import glossaries_pb2
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.interfaces.catalogue import grpc_interfaces
from dragoman_service.interfaces.names import INTERFACES
from faults.damage import damaged
from faults.wire import TEXTS, Reply, messages, send, unharmed, unknown_fields
from support.cases import cases
from support.server_process import ServerProcess, server_process

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
REFUSALS = (
    INVALID,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    UNIMPLEMENTED,
)
AT_ONCE = 20

SERVICES = [glossaries_pb2.DESCRIPTOR.services_by_name["Glossaries"].full_name]
SERVICES += [name for interface in grpc_interfaces(INTERFACES) for name in interface.services]
METHODS: dict[str, MethodDescriptor] = {
    f"/{name}/{method.name}": method for name in SERVICES for method in Default().FindServiceByName(name).methods
}
UNSERVED = ("ListOperations", "CancelOperation", "DeleteOperation")
PARENTS = st.sampled_from(["projects/p", "projects/p/locations/global"])
NAMES = st.sampled_from([
    "bank", "new", "..", "../bank", "a.en-de", "projects/p/locations/l/glossaries/bank",
    "projects/p/locations/l/glossaries/new", "projects/p/locations/l/glossaries/../x",
    "projects/p/locations/l/glossaries/bank/glossaryEntries/ab", "projects/p/locations/l/operations/create.bank",
])  # fmt: skip
SENSIBLE = {
    "texts": st.lists(TEXTS, min_size=1, max_size=3),
    "contents": st.lists(TEXTS, min_size=1, max_size=3),
    "content": TEXTS,
    "text": st.sampled_from(["cat", "Katze", "#a", "a\tb", ""]),
    "mime_type": st.sampled_from(["", "text/plain", "text/html"]),
    "model": st.sampled_from(["", "tiny", "projects/p/models/tiny", "projects/p/models/general/nmt"]),
    "parent": PARENTS | NAMES,
    "name": NAMES,
    "labels": st.just({}) | st.just({"team": "x"}),
    "dnt_phrases": st.lists(st.sampled_from(["cat", "Old##X", "a##,b##c", "😀"]), max_size=2),
    "max_len_variation": st.sampled_from(["", "0", "20"]),
    **dict.fromkeys(("source_language", "source_language_code"), st.sampled_from(["", "en", "en-US"])),
    **dict.fromkeys(("target_language", "target_language_code"), st.sampled_from(["de", "de-DE"])),
    "language_code": st.sampled_from(["", "en", "de"]),
    "filter": st.just(""),
    "page_token": st.sampled_from(["", "1"]),
}
"""By name of the field: values that a server of the tiny model takes."""
ALWAYS = ("text", "texts", "contents", "content", "parent", "name", "target_language", "target_language_code")


def rounds(usual: int, many: int) -> pytest.MarkDecorator:
    """So many inputs of each method in every run of the tests, and many in the slow ones: DRAGOMAN_CASES in all."""
    slow = pytest.param(cases(many * len(METHODS)) // len(METHODS), marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
    return pytest.mark.parametrize("rounds", [usual, slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("outside") / "glossaries"
    made.mkdir()
    (made / "bank.en-de.tsv").write_text("cat\tKatze\n")
    return made


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, folder: Path) -> Iterator[ServerProcess]:
    options = ("--max-rows", "16", "--glossaries", str(folder), "--glossaries-writable")
    with server_process([tiny_bundle.path], *options) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture(autouse=True)
def _nothing_outside(folder: Path) -> Iterator[None]:
    """No file is written outside of the folder, and no part of one is left in it."""
    yield
    assert [path.name for path in folder.parent.iterdir()] == ["glossaries"]
    assert not [path.name for path in folder.iterdir() if path.suffix != ".tsv" or path.name.startswith(".")]


def check(path: str, data: bytes, reply: Reply) -> str:
    """There is an answer of the method's type, or an error that says what is wrong. Returns the name of the status."""
    method = METHODS[path]
    try:
        message: Message | None = GetMessageClass(method.input_type).FromString(data)
    except DecodeError:
        message = None
    if method.name not in UNSERVED:
        assert reply.code in ((OK, *REFUSALS) if message is not None else (INVALID,)), (path, data, reply)
    if reply.code is OK:
        (answer,) = reply.messages
        GetMessageClass(method.output_type).FromString(answer)
    else:
        assert reply.reason
        assert reply.request_id
        assert bool(reply.fields) == (reply.code is INVALID), (path, data, reply)
    return str(reply.code.name)


def send_all(server: ServerProcess, channel: grpc.Channel, payloads: Mapping[str, Sequence[bytes]]) -> None:
    with unharmed(server) as tried:
        for path, all_of in payloads.items():
            for start in range(0, len(all_of), AT_ONCE):
                some = all_of[start : start + AT_ONCE]
                for data, reply in zip(some, send(channel, path, some), strict=True):
                    tried[check(path, data, reply)] += 1


@rounds(20, 2_000)
def test_random_bytes_are_invalid_or_a_message(server: ServerProcess, channel: grpc.Channel, rounds: int) -> None:
    rng = random.Random("bytes of others")
    lengths = (0, 1, 2, 3, 4, 6, 8, 12, 20, 50, 1000)
    payloads = {path: [rng.randbytes(rng.choice(lengths)) for _ in range(rounds)] for path in METHODS}
    send_all(server, channel, payloads)


@rounds(10, 500)
def test_damaged_messages_and_unknown_fields(server: ServerProcess, channel: grpc.Channel, rounds: int) -> None:
    rng = random.Random("damage to others")
    payloads = {}
    for path, method in METHODS.items():
        good_ones = [message.SerializeToString() for message in some_messages(method, rounds)]
        payloads[path] = [it for good in good_ones for it in (damaged(good, rng), good + unknown_fields(rng))]
    send_all(server, channel, payloads)


@rounds(25, 2_000)
def test_any_values_of_the_fields_have_an_answer_or_a_named_field(
    server: ServerProcess, channel: grpc.Channel, rounds: int
) -> None:
    by_method: dict[str, Counter[str]] = {}
    with unharmed(server) as tried:
        for path, method in METHODS.items():
            counts = by_method.setdefault(path, Counter())
            for message in some_messages(method, rounds):
                data = message.SerializeToString()
                (reply,) = send(channel, path, [data])
                counts[check(path, data, reply)] += 1
            tried.update(counts)
    for path in METHODS:
        if path.endswith(("TranslateText", "DetectLanguage", "GetSupportedLanguages", "ListSupportedLanguagePairs")):
            assert by_method[path]["OK"] > rounds // 100, (path, by_method[path])


def some_messages(method: MethodDescriptor, count: int) -> list[Message]:
    """So many messages that a method takes."""
    found: list[Message] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(messages(method.input_type, SENSIBLE, ALWAYS))
    def take(message: Message) -> None:
        found.append(message)

    take()
    return found
