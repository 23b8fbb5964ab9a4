"""A bundle as the last release that wrote format 2 left it: of random weights, in fp16 (`tests/runtime/format_2`)."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from dragoman_service.bundle.bundle import Bundle
from support.repositories import rewrite_manifest
from support.tiny import tokenizer_model

PARTS = Path(__file__).parents[1] / "runtime" / "format_2"
"""All of it but tokenizer and card."""


def bundle_of_format_2(folder: Path) -> Bundle:
    """A whole bundle in an empty folder."""
    shutil.copytree(PARTS, folder, dirs_exist_ok=True)
    (folder / "tokenizer.model").write_bytes(tokenizer_model())
    (folder / "MODEL_CARD.md").write_text("# tiny\n")
    files = json.loads((PARTS / "manifest.json").read_text(encoding="utf-8"))["files"]
    rewrite_manifest(folder, files={it: hashlib.sha256((folder / it).read_bytes()).hexdigest() for it in files})
    return Bundle.load(folder)
