"""Training of the subword vocabulary. Training and server read it with the same code,
`dragoman_service.bundle.tokenizer`."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import sentencepiece

from dragoman_model.recipe import TokenizerConfig
from dragoman_service.bundle.tokenizer import target_tag
from dragoman_service.errors import InvalidInput


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig, seed: int, target_tags: Sequence[str] = ()) -> bytes:
    """Train a SentencePiece model (Kudo and Richardson 2018) with byte fallback, so that every text can be encoded.

    Args:
        texts: Sentences of all languages.
        config: Size and algorithm of the vocabulary, and the largest number of sentences.
        seed: The seed of the draw, if there are more sentences than that.
        target_tags: Languages that get a tag (`dragoman_service.bundle.tokenizer.target_tag`).

    Returns:
        The serialised model. Its ids are 0 padding, 1 begin, 2 end, 3 unknown, then tags, 256 bytes, subwords.

    Raises:
        InvalidInput: the text is too small for the vocabulary.
    """
    if len(texts) > config.sample_sentences:
        texts = random.Random(seed).sample(texts, config.sample_sentences)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=config.vocab_size,
            model_type=config.algorithm,
            character_coverage=config.character_coverage,
            byte_fallback=True,
            split_digits=True,  # so that a number is copied digit by digit, and not translated like a word
            control_symbols=[target_tag(language) for language in target_tags],
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            num_threads=1,  # the merge order of ties must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        allowed = f"a size that the text supports ({error})"
        raise InvalidInput("tokenizer.vocab_size", config.vocab_size, allowed) from error
    return model.getvalue()
