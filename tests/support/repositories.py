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


def spoil_golden(bundle: Path) -> None:
    """Change a golden score of a bundle, so that its model does not give it, and update the checksums."""
    path = bundle / "golden.json"
    golden = json.loads(path.read_text())
    golden["sentences"][0]["score"] -= 1
    path.write_text(json.dumps(golden))
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite_manifest(bundle, files={**files, "golden.json": hashlib.sha256(path.read_bytes()).hexdigest()})
