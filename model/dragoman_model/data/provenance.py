"""The provenance of a training run: its code, libraries, machine and text, for later comparison of runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dragoman_model.recipe import Corpus, Data
from dragoman_service.errors import InvalidInput

_LIBRARIES = ("dragoman", "torch", "sentencepiece", "sacrebleu", "numpy")
_HERE = Path(__file__).parent


def provenance(data: Data, folder: Path) -> dict[str, Any]:
    """The JSON-ready provenance: `git`, `versions`, `machine`, and as `data` the size and SHA-256 of every text file.

    Raises:
        InvalidInput: a file cannot be read.
    """
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "git": git_state(_HERE),
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "data": {path: fingerprint(folder / path) for path in _paths(data)},
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The checked-out commit, and whether files differ from it. None if there is no git or `folder` is no checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": changed}


def fingerprint(path: Path) -> dict[str, Any]:
    """`bytes` and `sha256` of a file.

    Raises:
        InvalidInput: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}
    except OSError as error:
        raise InvalidInput("corpus", str(path), f"a readable file ({error.strerror})") from error


def _paths(data: Data) -> Iterable[str]:
    def of(corpus: Corpus) -> list[str]:
        return [corpus.path, *([corpus.target_path] if corpus.target_path else [])]

    paths = [path for corpus in (*data.train, *data.validation) for path in of(corpus)]
    return dict.fromkeys((*paths, *data.held_out))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
