"""Coverage-guided fuzzing of what reads the bytes of strangers, for as long as you like.

    pip install atheris
    python tests/faults/fuzz.py request -max_total_time=60

What may come is a value or an InvalidInput; anything else is a finding, and its input is written to a file. The further
arguments are libFuzzer's: folders of inputs to begin with among them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dragoman_service"]):
    from google.protobuf.message import DecodeError

    from dragoman_protos.v1 import translation_pb2 as pb
    from dragoman_service.bundle.languages import Languages
    from dragoman_service.bundle.manifest_reader import read_manifest
    from dragoman_service.errors import InvalidInput
    from dragoman_service.repository.models import ModelDescription
    from dragoman_service.repository.repository import read_aliases
    from dragoman_service.server.access.token_file import TokenFileError, parse
    from dragoman_service.server.convert import decoding_options, priority_of
    from dragoman_service.server.wire_format import MessageLimits, check_message
    from dragoman_service.text.segmenter import segment


MODEL = ModelDescription("m", "1", "", Languages((("en", "de"),)), "fp32", "cpu", 100, 100, 100, 16)


def fuzz_request(data: bytes) -> None:
    """The options of a request, from any message that protobuf understands."""
    with suppress(DecodeError, InvalidInput):
        request = pb.TranslateRequest.FromString(data)
        priority_of(request.priority)
        options = decoding_options(request.options, MODEL)
        assert 1 <= options.num_rows <= 16


def fuzz_text(data: bytes) -> None:
    """Nothing of a text is lost by splitting it."""
    text = data.decode("utf-8", "ignore")
    assert "".join(piece.text for piece in segment(text, "en")) == text


def fuzz_manifest(data: bytes) -> None:
    """A manifest is read, or has problems. One that is read is written so that it is read again as it is."""
    manifest, problems = read_manifest(data.decode("utf-8", "ignore"))
    assert (manifest is None) == bool(problems)
    if manifest is not None:
        assert read_manifest(manifest.to_json()) == (manifest, [])
        assert len(manifest.languages.summary) < 2_000


def fuzz_aliases(data: bytes) -> None:
    """Aliases are read, or named as what is wrong."""
    with suppress(InvalidInput, ValueError):
        read_aliases(data)


def fuzz_wire(data: bytes) -> None:
    """What passes the check of the bytes has few values."""
    with suppress(DecodeError, InvalidInput):
        check_message(data, MessageLimits({1: ("texts", 3), 6: ("target_prefixes", 3)}, max_others=5))
        request = pb.TranslateRequest.FromString(data)
        assert len(request.texts) <= 3
        assert len(request.target_prefixes) <= 3


def fuzz_tokens(data: bytes) -> None:
    """A file of tokens is read, or named as what is wrong."""
    with suppress(TokenFileError):
        parse(Path("tokens.json"), data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": fuzz_request,
    "text": fuzz_text,
    "manifest": fuzz_manifest,
    "aliases": fuzz_aliases,
    "wire": fuzz_wire,
    "tokens": fuzz_tokens,
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS, help="what to fuzz")
    args, rest = parser.parse_known_args()
    atheris.Setup([sys.argv[0], *rest], TARGETS[args.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
