"""Model repositories in folders, filled with versions of one bundle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any


def add_version(repository: Path, bundle: Path, name: str, version: str, **manifest: Any) -> Path:
    """Publish a copy of a bundle atomically under another name and version. `manifest` are changed fields."""
    place = repository / name / version
    partial = repository / name / f".{version}"
    shutil.copytree(bundle, partial)
    rewrite_manifest(partial, name=name, version=version, **manifest)
    os.rename(partial, place)
    return place


def rewrite_manifest(bundle: Path, **fields: Any) -> None:
    """Change fields of a bundle's manifest."""
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rename_languages(bundle: Path, source: str, target: str) -> None:
    """Call the languages of a bundle of one pair otherwise."""
    rewrite_manifest(bundle, languages={"pairs": [[source, target]], "sources": [], "targets": []})
    golden = json.loads((bundle / "golden.json").read_text())
    for sentence in golden["sentences"]:
        sentence["languages"] = [source, target]
    _rewrite_golden(bundle, golden)


def spoil_golden(bundle: Path) -> None:
    """Change a golden score of a bundle, so that its model does not give it."""
    golden = json.loads((bundle / "golden.json").read_text())
    golden["sentences"][0]["score"] -= 1
    _rewrite_golden(bundle, golden)


def _rewrite_golden(bundle: Path, golden: dict[str, Any]) -> None:
    path = bundle / "golden.json"
    path.write_text(json.dumps(golden))
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite_manifest(bundle, files={**files, "golden.json": hashlib.sha256(path.read_bytes()).hexdigest()})
