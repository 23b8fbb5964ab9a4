"""From the description of a tokenizer to the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dragoman_service.bundle.tokenizer import Tokenizer as DragomanTokenizer
from dragoman_service.bundle.tokenizers import fairseq, m2m, marian, pieces
from dragoman_service.bundle.tokenizers.given import Given
from dragoman_service.bundle.tokenizers.protocol import Tokenizer, TokenizerSpec
from dragoman_service.bundle.tokenizers.subwords import Parts, SubwordTokenizer
from dragoman_service.errors import InvalidInput

_SIZES = ("vocab_size", "source_vocab_size")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of tokenizer has, and what reads it."""

    required: tuple[str, ...]
    """Roles."""
    optional: tuple[str, ...] = ()
    """Roles."""
    settings: tuple[str, ...] = ()
    read: Callable[[Given], Parts] | None = None
    """None for `dragoman`, which has a class of its own."""


KINDS: Mapping[str, Kind] = {
    "dragoman": Kind(("model",)),
    "marian": Kind(
        ("source_model", "target_model"),
        ("vocabulary", "target_vocabulary"),
        ("languages", "begin_token", *_SIZES),
        marian.read,
    ),
    "m2m": Kind(
        ("model", "vocabulary"), settings=("languages", "language_ids", "target_in_source", *_SIZES), read=m2m.read
    ),
    "fairseq": Kind(("model",), settings=("languages", "language_ids", "legacy", *_SIZES), read=fairseq.read),
    "pieces": Kind((), pieces.ROLES, (*pieces.SETTINGS, *_SIZES), pieces.read),
}


def load_tokenizer(spec: TokenizerSpec, read: Callable[[str], bytes]) -> Tokenizer:
    """Make a tokenizer from its description.

    Args:
        spec: The description.
        read: Returns the contents of the file of a name. Its errors are passed on.

    Raises:
        InvalidInput: an unknown kind, role or setting, a missing role, a damaged file, or files and settings that
            contradict each other.
    """
    kind = KINDS.get(spec.kind)
    if kind is None:
        raise InvalidInput("tokenizer.kind", spec.kind, ", ".join(KINDS))
    if missing := [role for role in kind.required if role not in spec.files]:
        raise InvalidInput("tokenizer.files", sorted(spec.files), f"files among which are {', '.join(missing)}")
    roles = (*kind.required, *kind.optional)
    for role in spec.files:
        if role not in roles:
            raise InvalidInput("tokenizer.files", role, f"for {spec.kind}: {', '.join(roles)}")
    for name in spec.settings:
        if name not in kind.settings:
            raise InvalidInput("tokenizer.settings", name, f"for {spec.kind}: {', '.join(kind.settings) or 'none'}")
    return make_tokenizer(spec, {role: read(name) for role, name in spec.files.items()})


def make_tokenizer(spec: TokenizerSpec, files: Mapping[str, bytes]) -> Tokenizer:
    """Make a tokenizer of a description that has been checked, and the contents of the file of each role."""
    reader = KINDS[spec.kind].read
    return DragomanTokenizer(files["model"]) if reader is None else _OfFiles(Given(spec, files), reader)


class _OfFiles(SubwordTokenizer):
    """A tokenizer that is pickled as its files."""

    def __init__(self, given: Given, reader: Callable[[Given], Parts]) -> None:
        super().__init__(given.spec.kind, reader(given), given.fingerprint)
        self._given = given

    def __reduce__(self) -> tuple[Callable[..., Tokenizer], tuple[TokenizerSpec, dict[str, bytes]]]:
        return make_tokenizer, (self._given.spec, dict(self._given.files))
