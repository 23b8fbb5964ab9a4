"""Documents with markup, translated by the bundled model of a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.server_process import START_SECONDS, ServerProcess

from .conftest import BUNDLED

pytestmark = pytest.mark.skipif(not (BUNDLED / "manifest.json").exists(), reason="the bundled model is not there")

HTML = [
    "<b>here</b>",
    'Click <a href="x">this link</a> now.',
    "<ul>\n  <li>One apple</li>\n  <li>Two <i>green <b>pears</b></i></li>\n</ul>",
    "<table><tr><th>Name</th><td>The <em>old</em> house</td></tr></table>",
    "<p>My <b>dog <i>likes</i> to</b> sleep.<br>Use <code>foo()</code>, please.</p>",
    '<p>The <span translate="no">Good Company</span> sells <a href="1">books</a> and <a href="2">toys</a>.</p>',
    "<h1>Good morning</h1><!-- c --><p>How are <strong>you</strong>? I am fine.<img src=a></p>",
]
TAG = re.compile(r"<[^<>]*>")


@pytest.fixture(scope="module")
def stub(server: ServerProcess) -> Iterator[translation_pb2_grpc.TranslationStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield translation_pb2_grpc.TranslationStub(channel)


def translate(stub: translation_pb2_grpc.TranslationStub, text: str, text_format: int) -> str:
    request = pb.TranslateRequest(texts=[text], format=text_format)
    (translation,) = stub.Translate(request, timeout=START_SECONDS).translations
    return translation.hypotheses[0].text


@pytest.mark.parametrize("source", HTML)
def test_html(stub: translation_pb2_grpc.TranslationStub, source: str) -> None:
    written = translate(stub, source, pb.TEXT_FORMAT_HTML)
    assert sorted(TAG.findall(written)) == sorted(TAG.findall(source))
    assert TAG.sub("", written) != TAG.sub("", source)
    for kept in ("<code>foo()</code>", '<span translate="no">Good Company</span>'):
        assert written.count(kept) == source.count(kept)


def test_markdown(stub: translation_pb2_grpc.TranslationStub) -> None:
    source = "# Good morning\n\nThe **old house** is [here](http://x.y).\n\n- One `apple`\n\n```\ncode\n```\n"
    written = translate(stub, source, pb.TEXT_FORMAT_MARKDOWN)
    assert written.startswith("# Guten Morgen\n\n")
    assert written.endswith(" `apple`\n\n```\ncode\n```\n")
    assert written.count("**") == 2
    assert written.count("](http://x.y)") == 1


def test_an_unknown_format_is_refused(stub: translation_pb2_grpc.TranslationStub) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.Translate(pb.TranslateRequest(texts=["a"], format=99), timeout=START_SECONDS)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "format: got 99" in error.value.details()
