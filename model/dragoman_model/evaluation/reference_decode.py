"""Reference decoding: a simple, slow implementation of greedy and beam search, for tests.

It runs the whole Transformer for every token and caches nothing. The engine of the server must give the same results.
It shares no search code with the engine, so that an error of the one does not hide in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.engine.request import DecodingOptions, FinishReason, Hypothesis, Normalisation
from dragoman_service.errors import InvalidInput

NEVER = float("-inf")
"""Logit of a token that must not be produced."""

Added: TypeAlias = Callable[[Sequence[int]], Mapping[int, float]]
"""What is added to logits after the tokens of a hypothesis: token -> number, which may be `NEVER`."""


def mask_logits(logits: Tensor, config: ModelConfig) -> Tensor:
    """A copy of the logits [..., V], with minus infinity for the banned ids of a model."""
    logits = logits.clone()
    logits[..., list(config.banned_ids)] = NEVER
    return logits


@torch.no_grad()
def greedy_uncached(
    model: Transformer, source: Sequence[int], max_length: int, forced: Sequence[int] = ()
) -> tuple[list[int], list[float]]:
    """Greedy search without options and caches: the definition that all faster decoding must agree with.

    Args:
        model: In evaluation mode.
        source: Token ids; the last is the end of the sentence.
        max_length: Largest number of tokens, the end of the sentence included.
        forced: Token ids that are fed before any is chosen.

    Returns:
        Token ids and their log-probabilities, without the forced ones. Both include the end of the sentence if it was
        reached.
    """
    source_ids = torch.tensor([list(source)])  # [1, S]
    config = model.config
    given = [config.begin_id, *forced]
    target, scores = list(given), list[float]()
    for _ in range(max_length):
        logits = mask_logits(model(source_ids, torch.tensor([target]))[0, -1], config)  # [V]
        token = int(logits.argmax())
        target.append(token)
        scores.append(float(logits.log_softmax(-1)[token]))
        if token == config.end_id:
            break
    return target[len(given) :], scores


@torch.no_grad()
def search_uncached(  # noqa: PLR0913 - what a request has
    model: Transformer,
    source: Sequence[int],
    max_length: int,
    options: DecodingOptions = DecodingOptions(),  # noqa: B008 (frozen)
    target_prefix: Sequence[int] = (),
    max_positions: int | None = None,
    forced: Sequence[int] = (),
    normalisation: Normalisation = Normalisation.GNMT,
    *,
    added: Added = lambda tokens: {},
) -> list[Hypothesis]:
    """Greedy or beam search with all options of `DecodingOptions` except sampling and the coverage penalty.

    Args:
        model: In evaluation mode, on the CPU.
        source: Token ids; the last is the end of the sentence.
        max_length: Largest number of target tokens, without the end of the sentence.
        options: Options of the search.
        target_prefix: Token ids that every hypothesis begins with; fewer than `max_length`.
        max_positions: Number of decoder positions that may be used; None: those of the model.
        forced: Token ids that are fed before those of the prefix, and are no part of a hypothesis; together with these
            fewer than `max_positions`.
        normalisation: The length penalty.
        added: What biases add to the logits.

    Returns:
        The `options.num_hypotheses` best hypotheses, best first; fewer if the search found fewer.

    Raises:
        InvalidInput: `options` ask for sampling or a coverage penalty.
    """
    if options.sampling is not None:
        raise InvalidInput("sampling", options.sampling, "None: reference decoding has no sampling")
    if options.coverage_penalty:
        raise InvalidInput("coverage_penalty", options.coverage_penalty, "0: reference decoding has no alignments")
    positions = max_positions or model.config.max_positions
    oracle = _Oracle(
        model=model,
        source=torch.tensor([list(source)]),
        given=(model.config.begin_id, *forced),
        max_length=max_length,
        cut_length=positions - len(forced),
        options=options,
        normalisation=normalisation,
        added=added,
    )
    start = _Draft(tuple(target_prefix), (0.0,) * len(target_prefix))
    finished = oracle.greedy(start) if options.beam_size == 1 else oracle.beam(start)
    return finished[: options.num_hypotheses]


@dataclass(frozen=True, slots=True)
class _Draft:
    """An unfinished hypothesis."""

    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    """The log-probability of each token; 0 for those of the prefix."""

    def plus(self, token: int, score: float) -> _Draft:
        return _Draft((*self.tokens, token), (*self.scores, score))


@dataclass(frozen=True, slots=True)
class _Oracle:
    """The search for one source."""

    model: Transformer
    source: Tensor
    """[1, S]."""
    given: tuple[int, ...]
    """What is fed before the tokens of a hypothesis."""
    max_length: int
    cut_length: int
    """Number of tokens after which no position is left."""
    options: DecodingOptions
    normalisation: Normalisation
    added: Added

    @property
    def end_id(self) -> int:
        return self.model.config.end_id

    def greedy(self, draft: _Draft) -> list[Hypothesis]:
        """Greedy search: append the likeliest token until the end of the sentence or a limit."""
        while len(draft.tokens) < self.cut_length:
            score, token = (value.item() for value in self._log_probs([draft])[0].max(dim=0))
            if score == NEVER:
                break
            if token == self.end_id:
                return [self._stopped(draft, score)]
            if len(draft.tokens) == self.max_length:  # only the end of the sentence may follow
                break
            draft = draft.plus(int(token), score)
        return [self._cut(draft)]

    def beam(self, start: _Draft) -> list[Hypothesis]:
        """Beam search. Keeps the `beam_size` likeliest hypotheses.

        A hypothesis is finished when it ends while it is among the `beam_size` likeliest.
        """
        size = self.options.beam_size
        most = int(size * self.options.patience)
        live, finished = [start], list[Hypothesis]()
        while True:
            children = self._children(live)
            finished += [self._stopped(draft, score) for draft, token, score in children[:size] if token == self.end_id]
            finished = sorted(finished, key=lambda hypothesis: -hypothesis.score)[:most]
            if len(live[0].tokens) == self.max_length:  # only the end of the sentence may follow
                ended = {draft.tokens for draft, token, _ in children[:size] if token == self.end_id}
                rest = [self._cut(draft) for draft in live if draft.tokens not in ended]
                return sorted([*finished, *rest], key=lambda hypothesis: -hypothesis.score)[:size]
            growing = [draft.plus(token, score) for draft, token, score in children if token != self.end_id][:size]
            if not growing:
                return finished[:size] or [self._cut(draft) for draft in live][:size]
            live = growing
            if len(live[0].tokens) == self.cut_length:
                return sorted([*finished, *map(self._cut, live)], key=lambda hypothesis: -hypothesis.score)[:size]
            # The bound of all later scores: no further log-probability, the length penalty of the longest hypothesis
            # with its end.
            bound = sum(live[0].scores) / self._length_penalty(min(self.max_length + 1, self.cut_length))
            wanted = self.options.num_hypotheses
            if len(finished) == most or (len(finished) >= wanted and bound <= finished[wanted - 1].score):
                return finished[:size]

    def _children(self, live: Sequence[_Draft]) -> list[tuple[_Draft, int, float]]:
        """The `2 * beam_size` likeliest continuations, likeliest first: hypothesis, next token, its log-probability."""
        count = 2 * self.options.beam_size
        sums = torch.tensor([sum(draft.scores) for draft in live], dtype=torch.float64)
        log_probs = self._log_probs(live)  # [live, V]
        totals = (sums.unsqueeze(1) + log_probs.double()).flatten()
        best = totals.sort(descending=True, stable=True).indices[:count].tolist()
        found = [(live[i // log_probs.size(1)], i % log_probs.size(1), float(log_probs.flatten()[i])) for i in best]
        return [child for child in found if child[2] > NEVER]

    def _log_probs(self, drafts: Sequence[_Draft]) -> Tensor:
        """[drafts, V] log-probabilities of the next token. All hypotheses must have the same length."""
        target = torch.tensor([[*self.given, *draft.tokens] for draft in drafts])
        every = self.model(self.source.expand(len(drafts), -1), target)
        logits = mask_logits(every[:, -1], self.model.config)
        for row, draft in zip(logits, drafts, strict=True):
            self._adjust(row, draft.tokens)
        log_probs = logits.log_softmax(dim=-1)
        if self.options.never_empty and not drafts[0].tokens:
            log_probs[:, self.end_id] = NEVER
        return log_probs

    def _adjust(self, logits: Tensor, tokens: tuple[int, ...]) -> None:
        """Apply the options to the logits [V] of the token after `tokens`, in place."""
        for token in set(tokens):
            penalty = self.options.repetition_penalty
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        n = self.options.no_repeat_ngram_size
        if n > 0:
            ngrams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
            for ngram in ngrams:
                if (tokens + ngram[-1:])[-n:] == ngram:
                    logits[ngram[-1]] = NEVER
        if len(tokens) < self.options.min_length:
            logits[self.end_id] = NEVER
        for token, number in self.added(tokens).items():
            logits[token] += number

    def _stopped(self, draft: _Draft, end_score: float) -> Hypothesis:
        score = (sum(draft.scores) + end_score) / self._length_penalty(len(draft.tokens) + 1)
        return Hypothesis(draft.tokens, draft.scores, score, FinishReason.STOP)

    def _cut(self, draft: _Draft) -> Hypothesis:
        score = sum(draft.scores) / self._length_penalty(len(draft.tokens))
        return Hypothesis(draft.tokens, draft.scores, score, FinishReason.LENGTH)

    def _length_penalty(self, length: int) -> float:
        """The length penalty: of Wu et al. 2016, equation 14, or a power of the length."""
        base = (5 + length) / 6 if self.normalisation is Normalisation.GNMT else max(1, length)
        return float(base**self.options.length_penalty)
