"""The folder that an export writes."""

from __future__ import annotations

import os
from pathlib import Path

from dragoman_service.errors import InvalidInput


def check_folder(folder: Path, mark: str, *, force: bool) -> None:
    """Check that a folder can be made, before the work.

    Args:
        folder: The folder.
        mark: Name of a file that every folder of this kind has.
        force: Whether to replace a folder that exists. Only one of this kind, or an empty one: `--force` with a
            mistaken path must not remove the checkpoint itself, or a home.

    Raises:
        InvalidInput: it exists and may not be replaced, or cannot be made.
    """
    try:
        if folder.exists() and not force:
            raise InvalidInput("output", str(folder), "a folder that does not exist yet, or --force to replace it")
        if folder.exists() and not (folder / mark).is_file() and (folder.is_file() or any(folder.iterdir())):
            allowed = f"a folder with {mark}, or an empty one: --force replaces nothing else"
            raise InvalidInput("output", str(folder), allowed)
        above = next((it for it in folder.absolute().parents if it.exists()), folder)
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise InvalidInput("output", str(folder), f"a folder that can be made; {above} is none to write in")
    except OSError as error:  # such as a name that is too long
        raise InvalidInput("output", str(folder), f"a folder that can be made ({error.strerror})") from error
