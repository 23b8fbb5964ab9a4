"""Synthetic training text, translated by a running server: distillation and back-translation.

Distillation (Kim and Rush 2016) translates source text: a small model learns from the translations of a large one.
Back-translation (Sennrich et al. 2016) translates target text with a model of the opposite direction: it makes pairs
from text that exists in the target language only.
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
"""A function from texts to their translations, in the same order. It may read texts ahead."""

_CHRF = CHRF()


@dataclass(frozen=True, slots=True)
class Job:
    """The translation of one file."""

    text: Path
    """A file with one text per line, or a TSV file; `.gz`, `.bz2` and `.xz` are decompressed."""
    column: int | None
    """TSV column of the text to translate, from 0; None: whole lines."""
    reference_column: int | None
    """TSV column of the reference translation. The hypothesis nearest to it is chosen (Kim and Rush 2016, section 3.3).
    None: the best hypothesis."""
    original_is_target: bool
    """Whether the text to translate becomes the target side: back-translation."""
    max_characters: int
    """Longer texts are left out, because the server would refuse them."""
    output: Path
    """The TSV file to write: source, target, score of the translation."""
    options: dict[str, Any]
    """Options of the translation, which the report records."""

    @property
    def part(self) -> Path:
        """The file of the results until the job is complete: a JSON header, then JSON lines."""
        return self.output.with_name(self.output.name + ".part")

    @property
    def report(self) -> Path:
        """The JSON report of a complete job: header, models and counts."""
        return self.output.with_name(self.output.name + ".json")


@dataclass(slots=True)
class Outcome:
    """The counts of read, kept and dropped lines."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number of dropped lines."""

    def __str__(self) -> str:
        counts = f"read {self.read:,}, kept {self.kept:,}, dropped {self.dropped.total():,}"
        return counts + in_brackets(self.dropped)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to translate."""

    number: int
    text: str
    reference: str | None


def make_pairs(job: Job, translate: Translate, *, resume: bool) -> Outcome:
    """Translate a file and write a file of pairs. An interrupted job can be resumed.

    Repeated lines are translated once. White space, tabs included, becomes one space.

    Args:
        job: The job.
        translate: The function that translates.
        resume: Continue with the existing part file.

    Raises:
        InvalidInput: a file cannot be read or written or lacks a column, the output file exists, or the existing part
            file is of another job.
        Exception: an error of `translate`. The part file remains, and the job can be resumed.
    """
    if job.output.exists():
        raise InvalidInput("--output", str(job.output), "a file that does not exist yet")
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
        allowed = f"a file that can be written ({error.strerror}); then continue with --resume"
        raise InvalidInput("--output", str(job.part), allowed) from error
    return outcome


def _header(job: Job) -> dict[str, Any]:
    """The description of a job. A job can be resumed only if it is the same as at the start."""
    return {
        "text": job.text.name,
        "sha256": fingerprint(job.text)["sha256"],
        "column": job.column,
        "reference_column": job.reference_column,
        "original_is_target": job.original_is_target,
        "options": job.options,
    }


def _begin(job: Job, header: dict[str, Any], resume: bool) -> int:
    """Create the part file or, to resume, check it. Returns the number of its last translated line; 0 if none."""
    try:
        if not resume:
            if job.part.exists():
                raise InvalidInput("--output", str(job.part), "no such file, or --resume to continue it")
            job.part.write_text(json.dumps(header) + "\n", encoding="utf-8")
            return 0
        found = job.part.read_bytes()
    except OSError as error:
        what = "the part file of an interrupted run" if resume else "a file that can be written"
        raise InvalidInput("--output", str(job.part), f"{what} ({error.strerror})") from error
    whole = found[: found.rfind(b"\n") + 1]  # an incomplete last line is translated again
    header_line, _, rows = whole.partition(b"\n")
    try:
        first = json.loads(header_line)
        done = int(json.loads(rows.splitlines()[-1])[0]) if rows else 0
        changed = ", ".join(sorted(key for key in header.keys() | first.keys() if first.get(key) != header.get(key)))
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise InvalidInput("--resume", str(job.part), f"a part file of this command ({error})") from error
    if changed:
        raise InvalidInput("--resume", changed, f"the same as at the start of {job.part}")
    job.part.write_bytes(whole)
    return done


def _wanted(job: Job, outcome: Outcome) -> Iterator[_Line]:
    """The lines to translate, numbered from 1. Counts the lines that are read and dropped in `outcome`."""
    seen: set[bytes] = set()  # digests, because the text may be larger than memory
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
    """All texts of the file, each with its reference or None."""
    if job.column is None:
        yield from ((line, None) for line in read_lines(job.text))
    elif job.reference_column is None:
        yield from ((text, None) for (text,) in read_columns(job.text, (job.column,)))
    else:
        yield from ((text, made) for text, made in read_columns(job.text, (job.column, job.reference_column)))


def _row(job: Job, line: _Line, translation: Translation) -> list[str] | str:
    """The columns of the output for a translation, or the reason for which it is dropped."""
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
    """Write the output file and the report from the part file, and remove the latter. The output appears complete."""
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
