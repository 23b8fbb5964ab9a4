"""SentencePiece models with fewer pieces, which split a text as before wherever they have the pieces for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from dragoman_service.errors import InvalidInput

_proto: Any = sentencepiece_model_pb2  # its classes are made at run time
UNIGRAM, BPE = 1, 2
"""Kinds of models, `trainer_spec.model_type`, whose pieces can be left out."""
NORMAL = 1
"""The type of a piece of text. Others are special, bytes, or defined by the user."""
_LONGEST = 1_000
"""Characters of a piece; SentencePiece makes them of at most 16. The time to find mergers grows with their square."""
_MERGED = (NORMAL, 4, 5)
"""Types of pieces that BPE merges characters to: normal, defined by the user, unused."""


def parse(data: bytes, name: str) -> Any:
    """The message `ModelProto` of a file. Raises InvalidInput if it is none; `name` names the file."""
    try:
        return _proto.ModelProto.FromString(data)
    except DecodeError as error:
        raise InvalidInput(name, f"{len(data)} bytes", f"a SentencePiece model ({error})") from error


def check_lengths(pieces: Iterable[str], field: str) -> None:
    """Raise InvalidInput, which names `field`, for a piece that is far too long."""
    longest = max(pieces, key=len, default="")
    if len(longest) > _LONGEST:
        got = f"{longest[:20]}..., {len(longest)} characters"
        raise InvalidInput(field, got, f"pieces of at most {_LONGEST} characters")


def new_model() -> Any:
    """An empty message `ModelProto`."""
    return _proto.ModelProto()


def reduced(data: bytes, name: str, wanted: Callable[[str], bool]) -> tuple[bytes, set[str]]:
    """A model without the pieces that are not wanted, in the same order and with the same scores.

    If the full model splits a text into pieces that are all kept, the reduced one splits it into the same:

    - Unigram chooses the split of the highest sum of scores. Fewer pieces mean fewer splits to choose from. The pieces
      of the lowest and of the highest score are kept, as the scores of unknown characters and of pieces that the user
      defined depend on them.
    - BPE merges, again and again, the neighbours whose merger has the highest score. The mergers of a piece are those
      of its characters alone, as its outer boundaries are never merged away. All of them are kept with it.

    Single characters and pieces that are not normal are always kept, so no text has more unknown characters than
    before.

    Returns:
        The file of the reduced model, and its pieces.

    Raises:
        InvalidInput: the file is damaged, or of a kind whose pieces cannot be left out.
    """
    model = parse(data, name)
    kind = model.trainer_spec.model_type
    if kind not in (UNIGRAM, BPE):
        raise InvalidInput(f"{name}: model_type", kind, f"{UNIGRAM} (unigram) or {BPE} (BPE), to leave out pieces")
    check_lengths((it.piece for it in model.pieces), name)
    kept = {it.piece for it in model.pieces if it.type != NORMAL or len(it.piece) == 1 or wanted(it.piece)}
    normal = [it for it in model.pieces if it.type == NORMAL]
    if kind == UNIGRAM and normal:
        kept |= {choose(normal, key=lambda it: it.score).piece for choose in (min, max)}
    if kind == BPE:
        scores = {it.piece: it.score for it in model.pieces if it.type in _MERGED}
        for piece in list(kept):
            kept.update(mergers(piece, scores))
    left = [it for it in model.pieces if it.piece in kept]
    del model.pieces[:]
    model.pieces.extend(left)
    return model.SerializeToString(), kept


def mergers(piece: str, scores: Mapping[str, float]) -> Iterator[str]:
    """The pieces that BPE makes on the way from the characters of a piece to it, as far as it gets."""
    parts = list(piece)
    while pairs := [
        (scores[it], -place) for place, it in enumerate(map("".join, itertools.pairwise(parts))) if it in scores
    ]:
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        yield parts[place]
