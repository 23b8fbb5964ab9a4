"""Training text that a served model makes: from sources for distillation, from targets for back-translation.

Distillation (Kim and Rush 2016) teaches a small model what a large one says. Back-translation (Sennrich et al. 2016)
turns text that exists in the target language alone into pairs, with a model of the opposite direction.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sacrebleu.metrics.chrf import CHRF

from dragoman_model.data.corpus import OPENERS, in_brackets, read_columns, read_lines
from dragoman_model.data.provenance import fingerprint
from dragoman_service.client.values import FinishReason, Translation
from dragoman_service.errors import InvalidInput

Translate = Callable[[Iterable[str]], Iterator[Translation]]
"""Translations in the order of the texts; it may read ahead."""

_CHRF = CHRF()


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made."""

    text: Path
    """A text a line, or a TSV file; `.gz`, `.bz2` and `.xz` are unpacked."""
    column: int | None
    """Of a TSV file, from 0, that has the text to translate; None takes whole lines."""
    reference_column: int | None
    """Of the translation by people: of the hypotheses, the one nearest to it is taken (Kim and Rush 2016, section 3.3).
    None takes the best."""
    original_is_target: bool
    """What is translated is what shall be produced: back-translation."""
    max_characters: int
    """Longer texts are left out, as the server would refuse them."""
    output: Path
    """TSV: source, target, score of the translation."""
    options: dict[str, Any]
    """How it is translated, to be kept with the result."""

    @property
    def part(self) -> Path:
        """Where it lies until it is whole."""
        return self.output.with_name(self.output.name + ".part")

    @property
    def report(self) -> Path:
        """How it was made, in JSON."""
        return self.output.with_name(self.output.name + ".json")


@dataclass(slots=True)
class Outcome:
    """What became of the lines."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Lines by the reason for which they were dropped."""

    def __str__(self) -> str:
        counts = f"read {self.read:,}, kept {self.kept:,}, dropped {self.dropped.total():,}"
        return counts + in_brackets(self.dropped)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    reference: str | None


def make_pairs(job: Job, translate: Translate, *, resume: bool) -> Outcome:
    """Translate a file into a file of pairs; what is interrupted goes on where it stopped.

    Lines that stand twice are translated once. White space, tabs included, becomes one space.

    Args:
        job: What, and into which file.
        translate: Does it.
        resume: Go on with the part that is there.

    Raises:
        InvalidInput: a file cannot be read or written, lacks a column, or the part that is there is of another job.
        Exception: whatever `translate` raises. The part stays, and can be resumed.
    """
    if job.output.exists():
        raise InvalidInput("--output", str(job.output), "a file that is not there yet")
    outcome, header = Outcome(), _header(job)
    done = _begin(job, header, resume)
    pending: deque[_Line] = deque()

    def texts() -> Iterator[str]:
        for line in _wanted(job, outcome):
            if line.number > done:
                pending.append(line)
                yield line.text

    try:
        with job.part.open("a", encoding="utf-8", newline="\n") as part:
            for translation in translate(texts()):
                line = pending.popleft()
                made = [line.number, f"{translation.model} {translation.version}", _row(job, line, translation)]
                part.write(json.dumps(made, ensure_ascii=False) + "\n")
        _finish(job, outcome, header)
    except OSError as error:
        allowed = f"a file that can be written ({error.strerror}); go on with --resume when it can"
        raise InvalidInput("--output", str(job.part), allowed) from error
    return outcome


def _header(job: Job) -> dict[str, Any]:
    """What two runs must have in common to be one."""
    return {
        "text": job.text.name,
        "sha256": fingerprint(job.text)["sha256"],
        "column": job.column,
        "reference_column": job.reference_column,
        "original_is_target": job.original_is_target,
        "options": job.options,
    }


def _begin(job: Job, header: dict[str, Any], resume: bool) -> int:
    """Prepare the part; returns the number of the last line that it has."""
    try:
        if not resume:
            if job.part.exists():
                raise InvalidInput("--output", str(job.part), "no such file, or --resume to go on with it")
            job.part.write_text(json.dumps(header) + "\n", encoding="utf-8")
            return 0
        found = job.part.read_bytes()
    except OSError as error:
        what = "an unfinished file to go on with" if resume else "a file that can be written"
        raise InvalidInput("--output", str(job.part), f"{what} ({error.strerror})") from error
    whole = found[: found.rfind(b"\n") + 1]  # a line that was cut off is made again
    header_line, _, rows = whole.partition(b"\n")
    try:
        first = json.loads(header_line)
        done = int(json.loads(rows.splitlines()[-1])[0]) if rows else 0
        changed = ", ".join(sorted(key for key in header.keys() | first.keys() if first.get(key) != header.get(key)))
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise InvalidInput("--resume", str(job.part), f"a file begun by this command ({error})") from error
    if changed:
        raise InvalidInput("--resume", changed, f"the same as when {job.part} was begun")
    job.part.write_bytes(whole)
    return done


def _wanted(job: Job, outcome: Outcome) -> Iterator[_Line]:
    """The lines to translate, numbered from 1."""
    seen: set[bytes] = set()  # digests, as the text may be larger than memory
    for number, (raw, reference) in enumerate(_read(job), start=1):
        outcome.read += 1
        text = " ".join(raw.split())
        digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
        reason = None
        if not text:
            reason = "empty"
        elif len(text) > job.max_characters:
            reason = "too long"
        elif digest in seen:
            reason = "duplicate"
        seen.add(digest)
        if reason is None:
            yield _Line(number, text, reference)
        else:
            outcome.dropped[reason] += 1


def _read(job: Job) -> Iterator[tuple[str, str | None]]:
    """All texts, and their references if there are any."""
    if job.column is None:
        yield from ((line, None) for line in read_lines(job.text))
    elif job.reference_column is None:
        yield from ((text, None) for (text,) in read_columns(job.text, (job.column,)))
    else:
        yield from ((text, made) for text, made in read_columns(job.text, (job.column, job.reference_column)))


def _row(job: Job, line: _Line, translation: Translation) -> list[str] | str:
    """The pair that a translation makes, or why it makes none."""
    best = translation.hypotheses[0]
    if line.reference is not None:
        reference = line.reference
        best = max(translation.hypotheses, key=lambda h: _CHRF.sentence_score(h.text, [reference]).score)
    made = " ".join(best.text.split())
    if best.finish_reason is FinishReason.LENGTH:
        return "unfinished"
    if not made:
        return "nothing came out"
    pair = [made, line.text] if job.original_is_target else [line.text, made]
    return [*pair, f"{best.score:.4f}"]


def _finish(job: Job, outcome: Outcome, header: dict[str, Any]) -> None:
    """From the part to the output, which is there only when it is whole."""
    models = set[str]()
    opener = OPENERS.get(job.output.suffix, open)
    unfinished = job.output.with_name(job.output.name + ".writing")
    with (
        job.part.open(encoding="utf-8", newline="\n") as part,
        opener(unfinished, "wt", encoding="utf-8", newline="\n") as file,  # type: ignore[operator]
    ):
        next(part)
        for line in part:
            _, model, row = json.loads(line)
            models.add(model)
            if isinstance(row, str):
                outcome.dropped[row] += 1
            else:
                outcome.kept += 1
                file.write("\t".join(row) + "\n")
    counts = {"read": outcome.read, "kept": outcome.kept, "dropped": dict(outcome.dropped)}
    report = json.dumps({**header, "models": sorted(models), **counts}, indent=2, ensure_ascii=False) + "\n"
    job.report.write_text(report, encoding="utf-8")
    unfinished.replace(job.output)
    job.part.unlink()
