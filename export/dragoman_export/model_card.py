"""The model card (`MODEL_CARD.md`), written from the manifest."""

from __future__ import annotations

import json
from typing import Any

from dragoman_service.bundle.manifest import Manifest

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
    pairs = ", ".join(f"{source} to {target}" for source, target in manifest.language_pairs)
    limits = manifest.limits
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        manifest.description or f"A Transformer that translates {pairs}.",
        "",
        f"- Languages: {pairs}",
        f"- Precision: {manifest.precision}",
        f"- Vocabulary: {manifest.vocab_size} subwords",
        f"- Longest sentence: {limits.max_source_tokens} subwords in, {limits.max_target_tokens} out",
        f"- Made by {manifest.producer}, {manifest.created}",
        "",
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
