"""Training the subword vocabulary. `dragoman_service.bundle.tokenizer` reads it, so that both sides agree."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import sentencepiece

from dragoman_model.recipe import TokenizerConfig
from dragoman_service.bundle.tokenizer import target_tag
from dragoman_service.errors import InvalidInput


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig, seed: int, target_tags: Sequence[str] = ()) -> bytes:
    """Train SentencePiece (Kudo and Richardson 2018) with byte fallback, so that nothing is out of vocabulary.

    Args:
        texts: Sentences of both languages.
        config: Size and algorithm.
        seed: Of the draw of sentences, if there are more than wanted.
        target_tags: Languages that get a tag (`dragoman_service.bundle.tokenizer.target_tag`).

    Returns:
        The serialised model: ids 0 padding, 1 begin, 2 end, 3 unknown, then tags, 256 bytes, subwords.

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
            split_digits=True,  # a number is copied digit by digit instead of guessed at as a word
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
