"""MODEL_CARD.md, written from what is known; what is not known is not made up."""

from __future__ import annotations

import json

from dragoman_service.manifest import Manifest


def write_model_card(manifest: Manifest) -> str:
    """The text of a model card, after Mitchell et al. 2019."""
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
        *(_table(manifest.training) or ["The checkpoint says nothing of its training."]),
        "",
        "## Scores",
        "",
        *(_scores(manifest) or ["None were given when the bundle was made: `dragoman evaluate` measures them."]),
        "",
        "## Limits",
        "",
        "The model translates sentence by sentence and knows nothing of the sentences around. It may leave out, add or",
        "distort content, above all in text unlike its training data, and it repeats what biases that data has. Have a",
        "person check translations that matter.",
    ]
    return "\n".join(lines) + "\n"


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
