"""The kind `fairseq`: NLLB-200 and mBART-50, a SentencePiece model whose ids fairseq renumbered."""

from __future__ import annotations

from dragoman_service.bundle.tokenizers.decoding import Detokenizer
from dragoman_service.bundle.tokenizers.encoding import ModelEncoder, byte_ids, leading_spaces, pieces_of
from dragoman_service.bundle.tokenizers.given import Given
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.bundle.tokenizers.subwords import Language, Parts, Template
from dragoman_service.errors import InvalidInput

BEGIN, PAD, END, UNKNOWN = range(4)
_NAMES = ("<s>", "<pad>", "</s>", "<unk>")
_MODEL_SPECIAL = {"unknown": 0, "begin": 1, "end": 2, "padding": -1}
"""Special ids of the SentencePiece model. Every id after them moves up by one, as fairseq has four special ids."""


def read(given: Given) -> Parts:
    """Read the files.

    The language ids follow the pieces. The decoder begins with the end of the sentence and is forced to go on with the
    target language. The source begins with its language; with the setting `legacy`, it ends with it, after the end id.

    Raises:
        InvalidInput: see `loading.load_tokenizer`.
    """
    model = given.model("model")
    special = dict(zip(_MODEL_SPECIAL, (model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id()), strict=True))
    if special != _MODEL_SPECIAL:
        raise InvalidInput("tokenizer.files.model", f"special ids {special}", f"special ids {_MODEL_SPECIAL}")
    names = pieces_of(model)
    # Text never gives special ids, even if the model has more of them.
    renumbered = [UNKNOWN if i < 3 or model.is_control(i) else i + 1 for i in range(len(names))]
    pieces = {**dict(enumerate(_NAMES)), **{i + 1: piece for i, piece in enumerate(names) if i > 2}}
    language_ids = given.language_ids(pieces)
    languages = given.known_languages(language_ids, "a code of language_ids")
    pieces |= {i: code for code, i in language_ids.items()}
    controls = (i + 1 for i in range(3, len(names)) if model.is_control(i))
    legacy, encoder = given.flag("legacy"), ModelEncoder(model, renumbered)
    return Parts(
        source=encoder,
        target=encoder,
        detokenizer=Detokenizer(
            size=(size := given.size("vocab_size", max(pieces) + 1)),
            pieces=pieces,
            silent=frozenset((*range(4), *controls, *language_ids.values())),
            bytes=byte_ids(model, pieces),
            leading=leading_spaces(model),
        ),
        special=SpecialIds(PAD, END, END, UNKNOWN),
        template=Template(
            before=() if legacy else (Language.SOURCE,),
            after=(END, Language.SOURCE) if legacy else (END,),
            forced=(Language.TARGET,),
        ),
        source_vocab_size=size,
        source_languages=languages,
        target_languages=languages,
    )
