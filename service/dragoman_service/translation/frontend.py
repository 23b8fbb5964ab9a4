"""Processes calls on an event loop: admission, sentences and tokens, requests to the engine, assembly of results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeVar
from weakref import WeakKeyDictionary

from dragoman_service.engine.request import DecodingOptions, Finished, Hypothesis, Progress
from dragoman_service.errors import DeadlineExceeded, InvalidInput, ShuttingDown
from dragoman_service.repository.models import Route, ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.text.characters import private_characters
from dragoman_service.text.lines import JoinedText, joined_lines
from dragoman_service.text.markup.document import Document
from dragoman_service.text.markup.formats import TextFormat, document_steps
from dragoman_service.text.markup.html import NO_RULES, HtmlRules
from dragoman_service.text.segmenter import EncodedPiece, Splitting
from dragoman_service.text.terms import Glossary, Term
from dragoman_service.translation.assembly import Answer, Settled, TextResult, assemble_steps
from dragoman_service.translation.detection import Detection
from dragoman_service.translation.documents import results_of_documents
from dragoman_service.translation.engine_port import EngineCall, EnginePort, RequestStream
from dragoman_service.translation.glossaries import GlossaryFolder
from dragoman_service.translation.memory import UNLIMITED, Memory
from dragoman_service.translation.prefix import ExactStream, Prefix, PrefixText, check_prefix_bias
from dragoman_service.translation.prepare import PreparedText, RequestMaker, Sender, check_options, prepare_steps
from dragoman_service.translation.scoring import encoded_pairs, requests, scored
from dragoman_service.translation.second_attempt import has_checked, settle
from dragoman_service.translation.sentences import is_checked, is_plain
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.suppression import Unwanted, unwanted_steps
from dragoman_service.translation.text_worker import Steps, TextWorker, run_inline
from dragoman_service.translation.wrapped import in_source

_INLINE_CHARACTERS = 1_000
"""Longer input is split and tokenised on a thread, so that it does not block the event loop: some takes 20 us for each
character."""
_CHARACTERS_PER_TEXT = 10
"""As many characters as a text takes time by itself."""
_INLINE_TRANSLATIONS = 32
"""More translations of sentences are assembled on a thread, for the same reason."""
_DOCUMENT_CHARACTERS = 20_000
"""Documents of about so many characters are read before their memory is counted."""
_BYTES_PER_PIECE = 200
"""Bytes of memory of a sentence, or of the text between two, beside those of its characters and tokens."""
_BYTES_PER_TERM = 1_000
"""Bytes of memory of a term in a translation, with its message."""
_FIELDS_OF_A_TEXT = {"text": "texts", "target_prefix": "target_prefixes"}
"""What errors of one text name -> the field of a call."""

begun: ContextVar[bool] = ContextVar("begun", default=False)
"""Whether a call is a part of work that was begun before, and so is made even after `Frontend.stop_accepting`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """The texts of a call, and how to translate them."""

    texts: tuple[str, ...]
    route: Route
    options: DecodingOptions
    target_prefixes: tuple[str, ...] = ()
    """Empty, or one for each text."""
    sender: Sender = field(default_factory=Sender)
    memory: Memory = UNLIMITED
    """Is told of the memory of the translations."""
    window_divisor: int = 1
    """Calls that share the window, because they are made for one call of a client at the same time."""
    sentences: bool = False
    """Whether `TextHypothesis.sentences` is wanted."""
    alignments: bool = False
    """Whether `SentenceHypothesis.alignment` is wanted, with `sentences`."""
    format: TextFormat = TextFormat.PLAIN
    """What the texts are written in."""
    html: HtmlRules = NO_RULES
    """What HTML is cut by."""
    marked: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Empty, or for each text the characters (start, end) that its translation keeps, beside those that are found."""
    documents: tuple[int, ...] = ()
    """If the texts are blocks of documents: the number of the document of each."""

    keep: tuple[str, ...] = ()
    """Phrases that stand in translations as they are."""
    terms: tuple[Term, ...] = ()
    """Phrases with their translations. Phrases of `keep` are preferred."""
    glossary: str = ""
    """Name of a glossary of the server, whose terms come after all others; empty: none."""
    glossary_any_case: bool = False
    """Whether the terms of `glossary` match in any case."""
    splitting: Splitting = Splitting.SENTENCES
    """Where the texts are split."""
    join_lines: bool = False
    """Whether the lines of a paragraph are joined before."""
    target_prefix_bias: float | None = None
    """Natural logarithm of the factor of the odds of target prefixes; None if translations must begin with them."""
    suppressed_words: tuple[str, ...] = ()
    """Words that translations must not contain."""
    suppressed_tokens: tuple[str, ...] = ()
    """Pieces of the vocabulary that translations must not contain."""
    unwanted: Unwanted | None = None
    """What these two are for the model, which the frontend finds."""

    @property
    def waits(self) -> bool:
        """Whether there is work on it before the engine hears of it."""
        suppressed = self.suppressed_words or self.suppressed_tokens
        return self.join_lines or self.format is not TextFormat.PLAIN or bool(self.glossary or suppressed)

    def document_of(self, index: int) -> int:
        """The number of the text that the caller sent, of which `texts[index]` is a part."""
        return self.documents[index] if self.documents else index


class Frontend:
    """Translates texts with the engines of a registry, on one event loop."""

    def __init__(
        self,
        models: ModelRegistry,
        limits: RequestLimits,
        glossaries: GlossaryFolder | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """To be called on the event loop. `clock` must be that of the engines."""
        self.models = models
        self.glossaries = glossaries or GlossaryFolder(None)
        self._ports: WeakKeyDictionary[ServedModel, EnginePort] = WeakKeyDictionary()
        self.limits = limits
        self.clock = clock
        self._worker = TextWorker()
        self.detection = Detection(self._worker)
        self._draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def translate(self, call: Call) -> list[TextResult]:
        """Translate all texts, in order. Raises one of `dragoman_service.errors`.

        If a sentence fails or the caller is cancelled, the other sentences are cancelled before the next step.
        """
        self._check(call)
        if call.join_lines:
            joined = await self._compute_on_texts(call, _joined(call))
            results = await self._translate(replace(call, texts=tuple(text.text for text in joined)))
            count = sum(result.sentences for result in results) * call.options.num_hypotheses
            return await self.compute(call.sender.client, _in_sources(results, joined), translations=count)
        if call.format is TextFormat.PLAIN:
            return await self._translate(call)
        named = await self._named_glossary(call)
        private = private_characters("".join(term.target or "" for term in call.terms))
        private |= named.private if named else frozenset()
        documents = await self._documents(call, private)
        results = await self._translate(_of_blocks(call, documents))
        steps = results_of_documents(documents, results)
        if not _is_short(call):
            return await self._worker.run(call.sender.client, steps)
        translations = sum(result.sentences for result in results) * call.options.num_hypotheses
        return await self.compute(call.sender.client, steps, translations=translations)

    async def score(self, call: Call, translations: Sequence[str]) -> list[Hypothesis]:
        """The translation of each text, as many, with the log-probability that the model gives it.

        Raises as `translate`. The sizes must have been checked.
        """
        both = replace(call, target_prefixes=tuple(translations))
        port, count = self._port(call.route.model), len(call.texts)
        async with port.call(call.sender.client, self.limits.window, call.memory, requests=count) as engine_call:
            pairs = await self._compute_on_texts(both, encoded_pairs(call.texts, translations, call.route))
            self._expect(call, engine_call, [len(pair.source) for pair in pairs])
            made = requests(pairs, call.route, call.options, call.sender, port.new_id)
            finished = await engine_call.finish_all(made)
        return scored(pairs, finished, call.route)

    async def _translate(self, call: Call) -> list[TextResult]:
        call = await self._with_unwanted(call)
        model = call.route.model
        port = self._port(model)
        prepared = await self._prepared_first(call)
        async with self._engine_call(port, call, prepared) as engine_call:
            if prepared is None:
                prepared = await self._tokenise(call)
            self._announce(call, prepared, engine_call)
            maker = _maker(call, port)
            finished = await engine_call.finish_all(request for text in prepared for request in maker.of_text(text))
            answers: Sequence[Answer] = finished
            if has_checked(prepared):
                answers = await self._settled(prepared, finished, engine_call, maker)

        def assemble_all() -> Steps[list[TextResult]]:
            remaining, results = iter(answers), []
            for text in prepared:
                results.append((yield from _assembled(text, list(islice(remaining, text.num_sentences)), call)))
            return results

        count = sum(map(_parts_of, prepared)) * call.options.num_hypotheses
        return await self.compute(call.sender.client, assemble_all(), translations=count)

    async def stream(self, call: Call) -> AsyncGenerator[str | TextResult, None]:
        """Translate one text: yields pieces of the translation as they become final, then the result.

        The caller must close the generator (`contextlib.aclosing`) if it does not read it to the end. A document with
        markup is one piece.
        """
        self._check(call)
        if call.format is not TextFormat.PLAIN:
            (result,) = await self.translate(call)
            if result.hypotheses[0].text:
                yield result.hypotheses[0].text
            yield result
            return
        joined = await self._compute_on_texts(call, _joined(call)) if call.join_lines else []
        call = replace(call, texts=tuple(text.text for text in joined)) if joined else call
        call = await self._with_unwanted(call)
        port = self._port(call.route.model)
        first = await self._prepared_first(call)
        async with self._engine_call(port, call, first) as engine_call:
            (prepared,) = texts = await self._tokenise(call) if first is None else first
            self._announce(call, texts, engine_call)
            maker = _maker(call, port, stream=True)
            requests_of_text = engine_call.stream(maker.of_text(prepared))
            answers: list[Answer] = []
            for piece in prepared.pieces:
                if not piece.tokens:
                    yield piece.output
                elif is_checked(piece):
                    prefix = None if answers else prepared.prefix
                    yield await self._held_back(piece, prefix, requests_of_text, engine_call, maker, answers)
                else:
                    prefix = None if answers else prepared.prefix
                    async for text in self._as_it_comes(piece, prefix, requests_of_text, call, answers):
                        yield text
        count = call.options.num_hypotheses
        steps = _assembled(prepared, answers, call)
        result = await self.compute(call.sender.client, steps, translations=_parts_of(prepared) * count)
        if joined:
            count = result.sentences * call.options.num_hypotheses
            (result,) = await self.compute(call.sender.client, _in_sources([result], joined), translations=count)
        yield result

    @staticmethod
    async def _as_it_comes(
        piece: EncodedPiece, prefix: Prefix | None, requests: RequestStream, call: Call, answers: list[Answer]
    ) -> AsyncGenerator[str, None]:
        """Yield the translation of a sentence in pieces, and add its answer to `answers`."""
        tokenizer = call.route.model.tokenizer
        decoder, exact = tokenizer.stream_decoder(), ExactStream(prefix, piece)
        is_empty = True
        async for event in requests.next_request():
            if isinstance(event, Progress):
                text = decoder.push(event.tokens)
            else:
                answers.append(event)
                # What the decoder still holds is no whole character, which the hypothesis does not have either.
                text = "" if is_plain(piece) else tokenizer.decode(event.hypotheses[0].tokens)
            if written := exact.push(text, end=isinstance(event, Finished)):
                is_empty = False
                yield written
        if is_empty:
            yield piece.text

    async def _held_back(
        self,
        piece: EncodedPiece,
        prefix: Prefix | None,
        requests: RequestStream,
        engine_call: EngineCall,
        maker: RequestMaker,
        answers: list[Answer],
    ) -> str:
        """Return the translation of a sentence with kept spans, and add its answer to `answers`."""
        finished = [event async for event in requests.next_request() if isinstance(event, Finished)]
        (answer,) = await self._settled([PreparedText((piece,), prefix)], finished, engine_call, maker)
        answers.append(answer)
        assert isinstance(answer, Settled)
        return answer.texts[0] or piece.text

    async def _settled(
        self, texts: Sequence[PreparedText], finished: Sequence[Finished], call: EngineCall, maker: RequestMaker
    ) -> list[Answer]:
        count = len(finished) * maker.options.num_rows
        compute = partial(self.compute, maker.sender.client, translations=count)
        return await settle(texts, finished, call, maker, compute)

    async def compute(self, client: str, steps: Steps[T], *, translations: int) -> T:
        """Do a client's work on `translations` translated sentences: on a thread if they are many."""
        if translations <= _INLINE_TRANSLATIONS:
            return run_inline(steps)
        return await self._worker.run(client, steps)

    def check_sizes(self, texts: Sequence[str], prefixes: Sequence[str] = ()) -> None:
        """Raise InvalidInput for texts or target prefixes that are too many or too long."""
        limits = self.limits
        if not 1 <= len(texts) <= limits.max_texts:
            raise InvalidInput("texts", f"{len(texts)} texts", f"1 to {limits.max_texts}")
        for index, text in enumerate(texts):
            if len(text) > limits.max_characters:
                shown = f"{len(text)} characters"
                raise InvalidInput(f"texts[{index}]", shown, f"at most {limits.max_characters}; send it in parts")
        for index, prefix in enumerate(prefixes):
            if len(prefix) > limits.max_characters:
                shown = f"{len(prefix)} characters"
                raise InvalidInput(f"target_prefixes[{index}]", shown, f"at most {limits.max_characters}")
        if prefixes and len(prefixes) != len(texts):
            shown = f"{len(prefixes)} prefixes"
            raise InvalidInput("target_prefixes", shown, f"none, or one for each of the {len(texts)} texts")

    def stop_accepting(self) -> None:
        """Refuse new calls with ShuttingDown. Running calls go on, and work `begun` before makes its calls."""
        self._draining = True

    async def wait_idle(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until no call runs; returns whether none runs."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        return self._running == 0

    def close(self) -> None:
        """Close the connections to the engines, and stop the thread for texts without waiting for it."""
        for port in list(self._ports.values()):
            port.close()
        self._worker.close()

    @contextmanager
    def held(self, models: Iterable[ServedModel]) -> Iterator[None]:
        """Keep models from being unloaded within this context, for a call that will use them later."""
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(self._port(model).held())
            yield

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a call as running within this context. Raises ShuttingDown after `stop_accepting`: see `begun`."""
        if self._draining and not begun.get():
            raise ShuttingDown("the server is shutting down")
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    def _port(self, model: ServedModel) -> EnginePort:
        port = self._ports.get(model)
        if port is None or port.lost:
            port = self._ports[model] = EnginePort(model.engine)
        return port

    def _check(self, call: Call) -> None:
        self.check_sizes(call.texts, call.target_prefixes)
        for name, given in (("keep", call.keep), ("terms", call.terms)):
            if len(given) > self.limits.max_terms:
                raise InvalidInput(name, f"{len(given)} of them", f"at most {self.limits.max_terms}")
        if call.format is not TextFormat.PLAIN:
            _check_format(call)
        check_prefix_bias(call.target_prefix_bias)
        check_options(call.options, call.route.model.description)

    async def _with_unwanted(self, call: Call) -> Call:
        """The call with `unwanted`, if anything is suppressed. Raises InvalidInput."""
        if not (call.suppressed_words or call.suppressed_tokens):
            return call
        steps = unwanted_steps(call.suppressed_words, call.suppressed_tokens, call.route.model.tokenizer)
        return replace(call, unwanted=await self._worker.run(call.sender.client, steps))

    async def _prepared_first(self, call: Call) -> list[PreparedText] | None:
        """The texts, split and tokenised, if that may come before the admission; otherwise None.

        It may where the engine is in another process, which this work does not hold up, and the texts are short. Then
        all messages of the call go together, and it takes no more permits than it has sentences.
        """
        return await self._tokenise(call) if call.route.model.engine.remote and _is_short(call) else None

    def _engine_call(self, port: EnginePort, call: Call, prepared: list[PreparedText] | None) -> EngineCall:
        known = None if prepared is None else sum(text.num_sentences for text in prepared)
        window = max(1, self.limits.window // call.window_divisor)
        return port.call(call.sender.client, window, call.memory, requests=known)

    def _announce(self, call: Call, prepared: list[PreparedText], engine_call: EngineCall) -> None:
        """Tell the engine how many requests follow. Raises InvalidInput for a call of more work than it may have."""
        call.memory.add(_BYTES_PER_PIECE * sum(len(text.pieces) for text in prepared))
        places = sum(len(text.terms) for text in prepared)
        call.memory.add(_BYTES_PER_TERM * places * call.options.num_hypotheses)
        overhead = call.route.model.tokenizer.source_overhead
        sentences = [len(piece.tokens) + overhead for text in prepared for piece in text.pieces if piece.tokens]
        self._expect(call, engine_call, sentences, may_want_more=has_checked(prepared))

    @staticmethod
    def _expect(call: Call, engine_call: EngineCall, sentences: Sequence[int], *, may_want_more: bool = False) -> None:
        """Announce sentences by their numbers of source tokens. Raises as `_announce`."""
        work, most = sum(sentences) * call.options.num_rows, call.route.model.description.caps.max_call_work
        if most and work > most:
            shown = f"{sum(sentences)} source tokens, each {call.options.num_rows} times"
            raise InvalidInput("texts", shown, f"{most} in all; send smaller calls, or use a smaller beam")
        engine_call.expect(len(sentences), work, call.sender.deadline, may_want_more=may_want_more)

    async def _documents(self, call: Call, private: frozenset[str]) -> list[Document]:
        """The documents of a call. Raises InvalidInput for more blocks than a call may have sentences."""
        documents: list[Document] = []
        blocks = 0
        for texts in _about(_DOCUMENT_CHARACTERS, call.texts):
            found = await self._compute_on_texts(call, _document_steps(texts, call, private))
            call.memory.add(sum(document.memory for document in found))
            blocks += sum(len(document.blocks) for document in found)
            if blocks > self.limits.max_sentences:
                shown, most = f"more than {self.limits.max_sentences} paragraphs", self.limits.max_sentences
                raise InvalidInput("texts", shown, f"at most {most} in one call; send them in several")
            documents += found
        return documents

    async def _tokenise(self, call: Call) -> list[PreparedText]:
        prefixes = call.target_prefixes or ("",) * len(call.texts)
        all_marked = call.marked or ((),) * len(call.texts)
        check = _Check(call.sender.deadline, self.clock, self.limits.max_sentences)

        named = await self._named_glossary(call)

        def work() -> Steps[list[PreparedText]]:
            prepared = []
            glossaries, places = _glossaries(call, named), 0
            for index, (text, prefix, marked) in enumerate(zip(call.texts, prefixes, all_marked, strict=True)):
                with _named(call.document_of(index)):
                    wanted = PrefixText(prefix, required=call.target_prefix_bias is None)
                    steps = prepare_steps(
                        text, wanted, call.route, call.options, check, marked, glossaries, call.splitting
                    )
                    prepared.append((yield from steps))
                    if call.unwanted and (made := prepared[-1].prefix):
                        call.unwanted.check_prefix(made)
                places += len(prepared[-1].terms)
                if places > self.limits.max_term_places:
                    shown = f"more than {self.limits.max_term_places} places in which terms are found"
                    raise InvalidInput("texts", shown, f"at most {self.limits.max_term_places} in one call")
            return prepared

        return await self._compute_on_texts(call, work())

    async def _named_glossary(self, call: Call) -> Glossary | None:
        """The glossary of the server that a call names. Raises NotFound and InvalidInput."""
        if not call.glossary:
            return None
        # It may have to be read from its file.
        languages = call.route.source_language, call.route.target_language
        find = partial(self.glossaries.find, ignore_case=call.glossary_any_case)
        return await asyncio.to_thread(find, call.glossary, *languages)

    async def _compute_on_texts(self, call: Call, steps: Steps[T]) -> T:
        """Do work on the texts of a call: on a thread if they are long."""
        if _is_short(call):
            return run_inline(steps)
        return await self._worker.run(call.sender.client, steps)


def _glossaries(call: Call, named: Glossary | None) -> list[Glossary]:
    """The phrases and terms of a call, those that are preferred first, `named` last. Raises InvalidInput."""
    kept = (Term(phrase, None, case_sensitive=True) for phrase in call.keep)
    found = [Glossary(kept, "keep[{}]".format)] if call.keep else []
    found += [Glossary(call.terms)] if call.terms else []
    return [*found, named] if named else found


def _parts_of(text: PreparedText) -> int:
    """The number of the parts of which the result of a text consists."""
    return len(text.pieces) + len(text.warnings)


def _joined(call: Call) -> Steps[list[JoinedText]]:
    joined = []
    for text in call.texts:
        joined.append(joined_lines(text))
        yield
    return joined


def _in_sources(results: Sequence[TextResult], joined: Sequence[JoinedText]) -> Steps[list[TextResult]]:
    found = []
    for result, text in zip(results, joined, strict=True):
        found.append(in_source(result, text))
        yield
    return found


def _document_steps(texts: Sequence[str], call: Call, private: frozenset[str]) -> Steps[list[Document]]:
    documents = []
    for text in texts:
        documents.append((yield from document_steps(text, call.format, call.html, private)))
    return documents


def _about(characters: int, texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in groups of about so many characters; more if a text has more."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= characters:
            yield group
            group, size = [], 0
    if group:
        yield group


def _of_blocks(call: Call, documents: Sequence[Document]) -> Call:
    """The call for the blocks of its documents."""
    blocks = [(block, number) for number, document in enumerate(documents) for block in document.blocks]
    return replace(
        call,
        format=TextFormat.PLAIN,
        texts=tuple(block.text for block, _ in blocks),
        marked=tuple(block.kept for block, _ in blocks),
        documents=tuple(number for _, number in blocks),
        sentences=True,
        alignments=any(block.elements for block, _ in blocks),
    )


def _check_format(call: Call) -> None:
    """Raise InvalidInput for what documents with markup do not have."""
    name = call.format.name
    if any(call.target_prefixes):
        raise InvalidInput("target_prefixes", "prefixes", f"none with the format {name}")
    for name_of_field, wanted in (
        ("return_alignments", call.alignments),
        ("return_sentences", call.sentences),
        ("join_lines", call.join_lines),
    ):
        if wanted:
            raise InvalidInput(name_of_field, wanted, f"False with the format {name}")


def _maker(call: Call, port: EnginePort, *, stream: bool = False) -> RequestMaker:
    return RequestMaker(
        route=call.route,
        options=call.options,
        sender=call.sender,
        new_id=port.new_id,
        stream=stream,
        alignments=call.alignments,
        biases=(call.unwanted.bias,) if call.unwanted else (),
        prefix_bias=call.target_prefix_bias,
    )


def _assembled(text: PreparedText, answers: Sequence[Answer], call: Call) -> Steps[TextResult]:
    wanted = {"sentences": call.sentences, "alignments": call.alignments}
    return assemble_steps(text, answers, call.route, call.options, **wanted)


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Errors of one text, or of its prefix, say which one it is."""
    try:
        yield
    except InvalidInput as error:
        if error.field in _FIELDS_OF_A_TEXT:
            error.rename(f"{_FIELDS_OF_A_TEXT[error.field]}[{index}]")
        raise


def _is_short(call: Call) -> bool:
    given = (call.texts, call.target_prefixes, call.keep, [term.source for term in call.terms])
    characters = sum(sum(map(len, texts)) for texts in given)
    return characters + _CHARACTERS_PER_TEXT * len(call.texts) <= _INLINE_CHARACTERS


class _Check:
    """Called with every piece of a text that is being prepared; raises if the preparation must stop."""

    def __init__(self, deadline: float | None, clock: Callable[[], float], max_sentences: int) -> None:
        self._deadline = deadline
        self._clock = clock
        self._max_sentences = max_sentences
        self._sentences = 0

    def __call__(self, piece: EncodedPiece) -> None:
        if self._deadline is not None and self._clock() >= self._deadline:
            raise DeadlineExceeded("the deadline passed while the text was being prepared")
        self._sentences += bool(piece.tokens)
        if self._sentences > self._max_sentences:
            shown = f"more than {self._max_sentences} sentences"
            raise InvalidInput("texts", shown, f"at most {self._max_sentences} in one call; send them in several")
