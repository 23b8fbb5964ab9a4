"""Reading, checking and writing of a bundle, which is a folder NAME/VERSION."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import FORMAT_VERSION, GOLDEN, Manifest
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.private_copy import PrivateCopy, sha256_of
from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.bundle.typed_json import MAY_BE_ABSENT, from_json, shown
from dragoman_service.errors import BundleError, InvalidInput

__all__ = ["FORMAT_VERSION", "Bundle", "GoldenSentence", "Manifest", "write_bundle"]

MANIFEST = "manifest.json"


MAX_GOLDEN_BEAM = 16
"""The widest beam of a golden sentence."""


@dataclass(frozen=True, slots=True)
class GoldenSentence:
    """A translation that the bundle must reproduce on any machine."""

    source: str
    """The text."""
    source_ids: tuple[int, ...]
    """Its token ids, the end of the sentence last."""
    beam_size: int
    length_penalty: float
    max_length: int
    target_ids: tuple[int, ...]
    """The token ids of the translation, without the end of the sentence."""
    token_scores: tuple[float, ...]
    """The log-probability of each of `target_ids`."""
    score: float
    """As in `engine.request.Hypothesis`."""
    forced_ids: tuple[int, ...] = field(default=(), metadata=MAY_BE_ABSENT)
    """Ids that the decoder is fed after the first one; see `engine.request.Request.forced`."""
    languages: tuple[str, ...] = field(default=(), metadata=MAY_BE_ABSENT)
    """Language of the source and of the translation. Bundles of format 2 do not say it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are complete and match the manifest."""

    path: Path
    manifest: Manifest
    tokenizer: Tokenizer
    golden: tuple[GoldenSentence, ...]
    copy: PrivateCopy | None = None
    """The copy of the files that was checked; None if the files in `path` were."""

    @property
    def folder(self) -> Path:
        """The folder from which runners open the graphs."""
        return self.copy.folder if self.copy else self.path

    @property
    def max_positions(self) -> int:
        """Positions at which a row is fed a token: those of the longest translation and of the forced ids before it."""
        return self.manifest.limits.max_target_tokens + self.tokenizer.target_overhead

    @classmethod
    def load(cls, path: Path, copy: PrivateCopy | None = None) -> Bundle:
        """Read and check a bundle's folder. The runner opens the graphs later.

        Args:
            path: The folder.
            copy: Receives the files, which are then read from it alone: what is checked is what is opened later. The
                caller removes it once the graphs are open.

        Raises:
            BundleError: with every problem found.
        """
        if problem := _not_a_file(path / MANIFEST):
            raise BundleError(path, [f"{MANIFEST}: {problem}"])
        folder = copy.folder if copy else path
        try:
            if copy:
                copy.add(MANIFEST)
            text = (folder / MANIFEST).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BundleError(path, [f"{MANIFEST}: {_reason(error)}"]) from error
        manifest, problems = read_manifest(text)
        if manifest is None:
            raise BundleError(path, problems)
        problems = [
            problem for name, digest in manifest.files.items() for problem in _check_file(path, name, digest, copy)
        ]
        parsed = (GOLDEN, *manifest.tokenizer.files.values())
        if any(_not_a_file(folder / name) for name in parsed):  # opening a pipe may hang
            raise BundleError(path, problems)
        tokenizer = _load_tokenizer(folder, manifest, problems)
        golden = _load_golden(folder, manifest, problems)
        if problems or tokenizer is None:
            raise BundleError(path, problems)
        return cls(path, manifest, tokenizer, golden, copy)


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes | Path], *, force: bool = False) -> Bundle:
    """Write a bundle atomically: into a temporary folder beside `path`, which is checked and renamed at the end.

    Args:
        path: The folder NAME/VERSION.
        manifest: Its `files` are filled in here.
        files: File name -> its contents, or a file to copy.
        force: Replace a bundle that exists.

    Returns:
        The bundle, loaded from `path`.

    Raises:
        InvalidInput: `path` exists, and `force` is False.
        BundleError: the files do not make a valid bundle. Nothing is left on disk.
    """
    if path.exists() and not force:
        raise InvalidInput("output", str(path), "a folder that does not exist yet, or force to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InvalidInput("output", str(path), f"a folder that can be made ({error.strerror})") from error
    try:
        digests = {}
        for name, contents in files.items():
            if isinstance(contents, bytes):
                (partial / name).write_bytes(contents)
            else:
                shutil.copyfile(contents, partial / name)  # weights are large, and are not read into memory
            with (partial / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        complete = dataclasses.replace(manifest, files=digests)
        (partial / MANIFEST).write_text(complete.to_json(), encoding="utf-8")
        Bundle.load(partial)
        partial.chmod(0o755)  # only the owner may read the folders of mkdtemp
        _replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle.load(path)


def golden_to_json(golden: tuple[GoldenSentence, ...]) -> bytes:
    """The contents of `golden.json`."""
    values = {"sentences": [dataclasses.asdict(sentence) for sentence in golden]}
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _replace(partial: Path, path: Path) -> None:
    if not path.exists():
        os.rename(partial, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.rename(path, old / path.name)
    os.rename(partial, path)
    shutil.rmtree(old)


def _check_file(root: Path, name: str, digest: str, copy: PrivateCopy | None) -> list[str]:
    path = root / name
    if problem := _not_a_file(path):
        return [f"{name}: {problem}"]
    if not path.resolve().is_relative_to(root.resolve()):
        return [f"{name}: is a link out of the bundle"]
    try:
        actual = copy.add(name) if copy else sha256_of(path)
    except OSError as error:
        return [f"{name}: {_reason(error)}"]
    return [] if actual == digest else [f"{name}: SHA-256 is {actual}, the manifest says {digest}"]


def _load_tokenizer(path: Path, manifest: Manifest, problems: list[str]) -> Tokenizer | None:
    spec = manifest.tokenizer
    names = ", ".join(spec.files.values())
    try:
        tokenizer = load_tokenizer(spec, lambda name: (path / name).read_bytes())
    except OSError:
        return None  # a missing file has been reported
    except (InvalidInput, ValueError) as error:
        problems.append(f"{names}: {error}")
        return None
    sizes = ((tokenizer.vocab_size, manifest.vocab_size), (tokenizer.source_vocab_size, manifest.source_vocab_size))
    for got, wanted in dict.fromkeys(sizes):
        if got != wanted:
            problems.append(f"{names}: {got} subwords, the manifest says {wanted}")
    special = (tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id, tokenizer.unknown_id)
    if special != (wanted_ids := dataclasses.astuple(manifest.special_ids)):
        problems.append(f"{names}: padding, begin, end, unknown = {special}, the manifest says {wanted_ids}")
    problems += _language_problems(tokenizer, manifest.languages, names)
    return tokenizer


def _language_problems(tokenizer: Tokenizer, languages: Languages, names: str) -> Iterator[str]:
    """Languages of the manifest that the tokenizer does not know."""
    sources, targets = languages.all_sources, languages.all_targets
    if not sources or not targets:  # reported
        return
    inputs = {target: _input(tokenizer, sources[0], target) for target in targets}
    known = Counter(inputs.values())
    unknown = [it for it, given in inputs.items() if given is None or (known[given] > 1 and len(targets) > 1)]
    if unknown:
        yield f"{names}: no tag for {shown(', '.join(unknown))[1:-1]}, to which the manifest says it translates"
    elif odd := [it for it in sources if _input(tokenizer, it, targets[0]) is None]:
        yield f"{names}: no tag for {shown(', '.join(odd))[1:-1]}, from which the manifest says it translates"


def _input(tokenizer: Tokenizer, source: str, target: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What the model gets beside the ids of a text; None if the tokenizer does not know the languages."""
    try:
        return tokenizer.source((), source, target), tokenizer.forced(target)
    except InvalidInput:
        return None


def _load_golden(path: Path, manifest: Manifest, problems: list[str]) -> tuple[GoldenSentence, ...]:
    try:
        value = json.loads((path / GOLDEN).read_text(encoding="utf-8"))
    except OSError:
        return ()  # a missing file has been reported
    except (ValueError, RecursionError) as error:
        problems.append(f"{GOLDEN}: not JSON ({error})")
        return ()
    found: list[str] = []
    sentences = value.get("sentences") if isinstance(value, dict) else None
    golden: tuple[GoldenSentence, ...] = from_json(tuple[GoldenSentence, ...], sentences, "sentences", found)
    if not found and not golden:
        found.append("sentences: got none; allowed: one or more")
    for index, sentence in enumerate(golden if not found else ()):
        if not 1 <= sentence.beam_size <= MAX_GOLDEN_BEAM:
            found.append(f"sentences[{index}].beam_size: got {sentence.beam_size}; allowed: 1 to {MAX_GOLDEN_BEAM}")
    if not found:
        kinds = (
            ("source_ids", manifest.source_vocab_size),
            *((it, manifest.vocab_size) for it in ("forced_ids", "target_ids")),
        )
        for field, size in kinds:
            ids = {i for sentence in golden for i in getattr(sentence, field)}
            found += [f"{field}: token id {i}; allowed: 0 to {size - 1}" for i in ids if not 0 <= i < size]
    problems += [f"{GOLDEN}: {problem}" for problem in found]
    return golden if not found else ()


def _not_a_file(path: Path) -> str:
    """Why `path` is not a regular file; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _reason(error)
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def _reason(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error)
