"""How likely a model finds given translations: each is a search that may choose its tokens alone.

So scoring needs no graph of its own, and runs in one batch with translations. A restriction changes no log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dragoman_service.engine.request import DecodingOptions, Finished, Hypothesis, Request
from dragoman_service.engine.restrictions import Exactly
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import Route
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.text_worker import Steps

_CHARACTERS_PER_TOKEN = 32
"""Text with more characters is refused before it is tokenised, which takes time. Pieces rarely have more than 16."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids of a text and of its translation."""

    source: tuple[int, ...]
    """With the end of the sentence, and what a model of many languages has beside it."""
    target: tuple[int, ...]
    """Without the end of the sentence."""


def encoded_pairs(texts: Sequence[str], translations: Sequence[str], route: Route) -> Steps[list[Pair]]:
    """Tokenise texts and their translations. Raises InvalidInput for what is empty or too long for the model."""
    model, tokenizer = route.model.description, route.model.tokenizer
    longest = model.max_target_tokens - 1  # the end of the sentence, which is scored too, takes a position
    pairs = []
    for index, (text, translation) in enumerate(zip(texts, translations, strict=True)):
        yield
        for name, given, most in (
            ("texts", text, model.max_source_tokens),
            ("translations", translation, longest),
        ):
            if len(given) > _CHARACTERS_PER_TOKEN * most:
                allowed = f"at most {_CHARACTERS_PER_TOKEN * most}; score sentences one by one"
                raise InvalidInput(f"{name}[{index}]", f"{len(given)} characters", allowed)
        ids = tokenizer.encode(text)
        source = tokenizer.source(ids, route.source_language, route.target_language)
        target = tokenizer.encode_target(translation)
        for name, given, ids_of_it, length, most in (
            ("texts", text, ids, len(source), model.max_source_tokens),
            ("translations", translation, target, len(target), longest),
        ):
            if not ids_of_it:
                raise InvalidInput(f"{name}[{index}]", given, "text with a word")
            if length > most:
                raise InvalidInput(
                    f"{name}[{index}]", f"{length} tokens", f"at most {most}; score sentences one by one"
                )
        pairs.append(Pair(tuple(source), tuple(target)))
    return pairs


def requests(
    pairs: Sequence[Pair], route: Route, options: DecodingOptions, sender: Sender, new_id: Callable[[], int]
) -> Iterator[Request]:
    """The requests that score pairs, in order."""
    tokenizer = route.model.tokenizer
    for pair in pairs:
        yield Request(
            id=new_id(),
            source=pair.source,
            max_length=len(pair.target),
            options=options,
            deadline=sender.deadline,
            client=sender.client,
            priority=sender.priority,
            forced=tokenizer.forced(route.target_language),
            normalisation=route.model.description.normalisation,
            restrictions=(Exactly(pair.target, tokenizer.end_id),),
        )


def scored(pairs: Sequence[Pair], finished: Sequence[Finished], route: Route) -> list[Hypothesis]:
    """The translations with their scores. Raises InvalidInput for one that the model cannot write."""
    found = []
    for index, (pair, event) in enumerate(zip(pairs, finished, strict=True)):
        hypothesis = event.hypotheses[0]
        if hypothesis.tokens != pair.target:
            (piece,) = route.model.tokenizer.pieces(pair.target[len(hypothesis.tokens) :][:1])
            error = InvalidInput(f"translations[{index}]", piece, "text that the model can write")
            error.after_work = True
            raise error
        found.append(hypothesis)
    return found
