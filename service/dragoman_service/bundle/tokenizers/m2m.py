"""The kind `m2m`: M2M100 and SMaLL-100, one SentencePiece model whose pieces are looked up in a vocabulary."""

from __future__ import annotations

from dragoman_service.bundle.tokenizers.decoding import Detokenizer
from dragoman_service.bundle.tokenizers.encoding import ModelSplitter, PieceEncoder, byte_ids, leading_spaces
from dragoman_service.bundle.tokenizers.given import Given
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.bundle.tokenizers.subwords import Language, Parts, Template
from dragoman_service.errors import InvalidInput

BEGIN, PAD, END, UNKNOWN = SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def read(given: Given) -> Parts:
    """Read the files.

    The language ids follow the vocabulary, in which they are not. The decoder begins with the end of the sentence. The
    source begins with its language, and the decoder is forced to begin with the target language; with the setting
    `target_in_source`, the source begins with the target language, and nothing is forced.

    Raises:
        InvalidInput: see `loading.load_tokenizer`.
    """
    model, ids = given.model("model"), given.vocabulary("vocabulary")
    if missing := [piece for piece in SPECIAL if piece not in ids]:
        raise InvalidInput("tokenizer.files.vocabulary", f"no {', '.join(missing)}", f"all of {', '.join(SPECIAL)}")
    pieces = {i: piece for piece, i in ids.items()}
    language_ids = given.language_ids(pieces)
    languages = given.known_languages(language_ids, "a code of language_ids")
    silent = frozenset((*(ids[piece] for piece in SPECIAL), *language_ids.values()))
    pieces |= {i: f"__{code}__" for code, i in language_ids.items()}
    encoder = PieceEncoder(
        ModelSplitter(model), {piece: i for piece, i in ids.items() if i not in silent}, ids[UNKNOWN]
    )
    swapped = given.flag("target_in_source")
    return Parts(
        source=encoder,
        target=encoder,
        detokenizer=Detokenizer(
            size=(size := given.size("vocab_size", max(pieces) + 1)),
            pieces=pieces,
            silent=silent,
            bytes=byte_ids(model, pieces),
            leading=leading_spaces(model),
        ),
        special=SpecialIds(ids[PAD], ids[END], ids[END], ids[UNKNOWN]),
        template=Template(
            before=(Language.TARGET if swapped else Language.SOURCE,),
            after=(ids[END],),
            forced=() if swapped else (Language.TARGET,),
        ),
        source_vocab_size=size,
        source_languages=languages,
        target_languages=languages,
    )
