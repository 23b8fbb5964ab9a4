"""From a model of our own to a folder of another program."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from dragoman_export.elsewhere import ctranslate2, hugging_face
from dragoman_export.elsewhere.own import read_own
from dragoman_export.output import check_folder
from dragoman_service.errors import InvalidInput

WRITERS = {
    "ctranslate2": (ctranslate2.write_folder, ctranslate2.PRECISIONS),
    "hf": (hugging_face.write_folder, hugging_face.PRECISIONS),
}
"""Value of --to -> what writes a folder, and the number formats that it may have."""
CARD = "README.md"


def write_elsewhere(
    path: Path, to: str, output: Path, precision: str = "fp32", *, licence: str = "", force: bool = False
) -> list[str]:
    """Write a folder of another program. If something fails, nothing is written.

    Args:
        path: A checkpoint of `dragoman train`, or a bundle that was exported from one.
        to: One of `WRITERS`.
        output: The folder.
        precision: Number format of the matrices.
        licence: Of the weights; empty: that of the bundle, if it has one.
        force: Replace a folder that exists.

    Returns:
        What a user should know; a sentence or two each.

    Raises:
        InvalidInput: an argument is not allowed, or the other program cannot compute what the model computes.
        BundleError: the bundle is not valid.
    """
    if to not in WRITERS:
        raise InvalidInput("to", to, ", ".join(WRITERS))
    write, precisions = WRITERS[to]
    if precision not in precisions:
        raise InvalidInput("precision", precision, f"{', '.join(precisions)}, for --to {to}")
    check_folder(output, "config.json", force=force)
    own = read_own(path)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise InvalidInput("output", str(output), f"a folder that can be made ({error.strerror})") from error
    try:
        notes = write(own, partial, precision)
        card = _front_matter(licence or own.licence) + (own.card or "")
        if card:
            (partial / CARD).write_text(card, encoding="utf-8")
        partial.chmod(0o755)  # only the owner may read the folders of mkdtemp
        _replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [*own.notes, *notes]


def _front_matter(licence: str) -> str:
    """What the Hugging Face Hub and `dragoman import` read the licence from. A string of JSON is one of YAML."""
    return f"---\nlicense: {json.dumps(licence)}\n---\n\n" if licence else ""


def _replace(partial: Path, output: Path) -> None:
    """Rename `partial` to `output`. An old folder is removed after that."""
    if not output.exists():
        partial.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
    output.rename(old / output.name)
    partial.rename(output)
    shutil.rmtree(old)
