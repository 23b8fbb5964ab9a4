"""Packages of Argos Translate, which LibreTranslate uses: a zip of metadata, a CTranslate2 model and SentencePiece."""

from __future__ import annotations

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dragoman_export.imports.families import ctranslate2
from dragoman_export.imports.files import digests, need, read_object
from dragoman_export.imports.imported import Imported, ImportOptions, Languages
from dragoman_export.imports.languages import contradictions
from dragoman_export.imports.licence import licence_of
from dragoman_service.errors import InvalidInput

_MOST_BYTES = 8 * 2**30
"""Largest package, unpacked."""
_MOST_FILES = 1000
_MOST_RATIO = 200
"""Largest quotient of the sizes of a package, unpacked and packed."""
_NEEDED = ("metadata.json", "sentencepiece.model", "bpe.model", "README.md")
"""Files that are unpacked, beside the folder `model`."""
_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""The folders of unpacked packages, which the interpreter removes at its end."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a package, or a folder that one has been unpacked to.

    A package is unpacked to a temporary folder. It is removed when the program ends, as the tensors are read later.

    Raises:
        InvalidInput: for what is missing, damaged or not supported.
    """
    folder = path if path.is_dir() else _unpacked(path)
    metadata = read_object(need(folder, "metadata.json", "it names the languages of the package"))
    if (folder / "bpe.model").is_file():
        raise InvalidInput("bpe.model", "Moses and BPE", "packages with sentencepiece.model")
    model = need(folder, "sentencepiece.model", "it splits the texts")
    prefix = metadata.get("target_prefix") or ""
    if not isinstance(prefix, str):
        raise InvalidInput("metadata.json: target_prefix", prefix, "a token of the target vocabulary, or none")
    source, target = (_code(metadata, name) for name in ("from_code", "to_code"))
    said = Languages((source,), (target,))
    stated = metadata.get("license")
    if not isinstance(stated, str | None):
        raise InvalidInput("metadata.json: license", stated, "the name of a licence")
    licence = options.licence or stated or licence_of(folder)
    sources, targets = options.sources or said.sources, options.targets or said.targets
    given = replace(options, licence=licence, sources=sources, targets=targets, tokenizer=model)
    imported = ctranslate2.read(folder / "model", given, prefix)
    files = digests([path]) if path.is_file() else imported.origin["files"]
    return replace(
        imported,
        # As Argos Translate decodes.
        generation=replace(imported.generation, beam_size=4, length_penalty=0.2),
        origin={"family": "argos", "name": path.resolve().name, "files": files},
        notes=(*imported.notes, *contradictions(said, options)),
    )


def _code(metadata: dict[str, object], name: str) -> str:
    code = metadata.get(name)
    if not isinstance(code, str) or not code:
        raise InvalidInput(f"metadata.json: {name}", code, "the code of a language")
    return code


def _unpacked(path: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [it for it in archive.infolist() if not it.is_dir()]
            _check(path, entries)
            folder = tempfile.TemporaryDirectory(prefix="dragoman-argos-")
            _KEPT.append(folder)
            for entry in entries:
                inside = PurePosixPath(*PurePosixPath(entry.filename).parts[1:])
                if inside.parts[:1] != ("model",) and str(inside) not in _NEEDED:
                    continue
                place = Path(folder.name, *inside.parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, place.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # no fault of the package
        raise InvalidInput(path.name, "damaged", f"a package of Argos Translate ({error})") from error
    return Path(folder.name)


def _check(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Bound the size of what is unpacked, and refuse names that lead out of the package, and links."""
    size = sum(it.file_size for it in entries)
    if len(entries) > _MOST_FILES or size > min(_MOST_BYTES, _MOST_RATIO * max(path.stat().st_size, 1)):
        allowed = f"at most {_MOST_FILES} files, {_MOST_BYTES} bytes and {_MOST_RATIO} times the size of the package"
        raise InvalidInput(path.name, f"{len(entries)} files of {size} bytes", allowed)
    tops = set()
    for it in entries:
        parts = PurePosixPath(it.filename).parts
        outside = not parts or it.filename.startswith("/") or ".." in parts or "\\" in it.filename or ":" in it.filename
        if outside or stat.S_ISLNK(it.external_attr >> 16):
            raise InvalidInput(path.name, it.filename, "files inside the package, and no links")
        tops.add(parts[0])
    if len(tops) != 1:
        raise InvalidInput(path.name, ", ".join(sorted(tops)[:5]) or None, "one folder, as packages of Argos have it")
