"""The model card (`MODEL_CARD.md`), written from the manifest."""

from __future__ import annotations

import json
from typing import Any

from dragoman_service.bundle.languages import MAX_SHOWN, Languages
from dragoman_service.bundle.manifest import Manifest, Origin

LIMITS = """## Limits

The model translates sentence by sentence and knows nothing of the sentences around. It may leave out, add or
distort content, above all in text unlike its training data, and it repeats what biases that data has. Have a
person check translations that matter."""


def write_model_card(manifest: Manifest, notes: str = "") -> str:
    """The text of a model card, after Mitchell et al. 2019.

    Args:
        manifest: The manifest of the bundle.
        notes: Additional Markdown, with headings of the second level: origin and licences of the data, strengths and
            weaknesses of the model.
    """
    limits, languages = manifest.limits, manifest.languages
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        manifest.description or f"A Transformer that translates {languages.summary}.",
        "",
        f"- Languages: {languages.summary}",
        *(_sides(languages) if len(languages) > MAX_SHOWN else []),
        f"- Licence: {manifest.licence or 'not known'}",
        f"- Precision: {manifest.precision}",
        f"- Vocabulary: {_vocabulary(manifest)}",
        f"- Longest sentence: {limits.max_source_tokens} subwords in, {limits.max_target_tokens} out",
        f"- Made by {manifest.producer}, {manifest.created}",
        "",
        *_origin(manifest.origin),
        "## Architecture",
        "",
        *_table(manifest.architecture),
        "",
        "## Training",
        "",
        *(_training(manifest.training) or ["The checkpoint has no summary of its training."]),
        "",
        "## Scores",
        "",
        *(_scores(manifest) or ["None were given when the bundle was made: `dragoman evaluate` measures them."]),
        "",
        *([notes.strip(), ""] if notes.strip() else []),
        LIMITS,
    ]
    return "\n".join(lines) + "\n"


def _sides(languages: Languages) -> list[str]:
    return [f"- From: {', '.join(languages.all_sources)}", f"- Into: {', '.join(languages.all_targets)}"]


def _vocabulary(manifest: Manifest) -> str:
    if manifest.source_vocab_size == manifest.vocab_size:
        return f"{manifest.vocab_size} subwords"
    return f"{manifest.source_vocab_size} subwords of the source, {manifest.vocab_size} of the target"


def _origin(origin: Origin | None) -> list[str]:
    """The section on the checkpoint of other people from which the bundle was made; nothing if there is none."""
    if origin is None:
        return []
    notes = [f"- {note}" for note in origin.notes]
    rows = [f"| {_cell(name)} | `{digest}` |" for name, digest in origin.files.items()]
    head = ["## Origin", "", f"Made from a checkpoint of the family {origin.family}, which Dragoman did not train.", ""]
    table = ["| File of the checkpoint | SHA-256 |", "|---|---|", *rows, ""] if rows else []
    return [*head, *notes, *([""] if notes else []), *table]


def _training(summary: dict[str, Any]) -> list[str]:
    """The summary of the training: simple values as a table, corpora as another one, nested values as JSON."""
    rest = dict(summary)
    corpora = rest.pop("data", None)
    nested = {
        name: rest.pop(name) for name, value in summary.items() if name in rest and isinstance(value, dict | list)
    }
    lines = _table(rest)
    if isinstance(corpora, list) and all(isinstance(corpus, dict) for corpus in corpora):
        rows = [
            f"| {corpus.get('corpus')} | {corpus.get('kept', 0):,} | {corpus.get('weight')} "
            f"| {', '.join(f'{reason} {count:,}' for reason, count in corpus.get('dropped', {}).items())} |"
            for corpus in corpora
        ]
        lines += ["", "| Corpus | Pairs | Weight | Dropped |", "|---|---|---|---|", *rows]
    for name, value in nested.items():
        lines += ["", f"{name.capitalize()}:", "", "```json", json.dumps(value, indent=2, ensure_ascii=False), "```"]
    return lines


def _table(values: dict[str, object]) -> list[str]:
    if not values:
        return []
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in values.items())]


def _scores(manifest: Manifest) -> list[str]:
    if not manifest.scores:
        return []
    rows = [f"| {s.test_set} | {s.metric} | {s.value:g} | `{s.signature}` |" for s in manifest.scores]
    return ["| Test set | Metric | Score | Signature |", "|---|---|---|---|", *rows]


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")
