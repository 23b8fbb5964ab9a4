"""The measured models, in the formats of all competitors. They are made once and kept in a folder.

bundled   deploy/models/en-de/1 itself: width 256, 6 + 2 layers, 8,000 words
small     grown from it to the preset `small`: width 256, 6 + 2 layers, 8,000 words
base      grown from it to the preset `base`: width 512, 6 + 6 layers, 32,000 words
opus      grown to the shape of OPUS-MT's models: width 512, 6 + 6 layers, 58,101 words (but pre-norm and ReLU)
nllb      grown to the shape of NLLB-200 600M: width 1,024, 12 + 12 layers, 256,206 words

All compute the same function. Each exists in two variants: as it is, with translations of real lengths, and `forced`,
which never ends a sentence, so that every translation has the requested number of tokens.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.common import DEFAULT_CACHE, ROOT, progress
from bench.peers.grow import grow, grow_tokenizer, without_end
from dragoman_export.elsewhere.write import write_elsewhere
from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.read_back import read_model
from dragoman_export.sentences import BUILT_IN
from dragoman_model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import AlignmentHead
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.errors import InvalidInput

BUNDLED = ROOT / "deploy" / "models" / "en-de" / "1"
MARIAN = Path(__file__).with_name("marian.py")
GROWN = {
    "small": {"preset": "small", "vocab_size": 8000},
    "base": {"preset": "base", "vocab_size": 32000},
    "opus": {"preset": "base", "vocab_size": 58101},
    "nllb": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "encoder_layers": 12, "decoder_layers": 12,
             "vocab_size": 256206},
}  # fmt: skip
"""Grown model -> its shape."""
MODELS = ("bundled", *GROWN)
SENTENCES = 4
"""Sentences that scales and proofs are made of: those of models that never end take a second each in PyTorch."""
ALIGNMENT = AlignmentHead(0, 0)
"""The choice among hundreds of heads takes minutes, and all of them take the same time to align."""


def bundle_path(name: str, precision: str, cache: Path = DEFAULT_CACHE, *, forced: bool = False) -> Path:
    """The folder of a Dragoman bundle, exported by the code of this checkout, and again when that code changes.

    Raises:
        InvalidInput: no such model, or a precision that the exporter does not have.
    """
    checkpoint = checkpoint_path(name, cache, forced=forced)
    with _making(cache, f"bundles-{_code_digest()}/{name}{'-forced' * forced}-{precision}/1") as (output, there):
        if not there:
            with tempfile.TemporaryDirectory() as folder:
                few, all_of_them = Path(folder, "few.txt"), Path(folder, "all.txt")
                few.write_text("\n".join(BUILT_IN["en"][:SENTENCES]), encoding="utf-8")
                all_of_them.write_text("\n".join(BUILT_IN["en"]), encoding="utf-8")
                options = ExportOptions(
                    f"{name}-{precision}",
                    "1",
                    precision=precision,
                    calibration=few,
                    sentences=few,
                    golden=all_of_them,
                    alignment=ALIGNMENT,
                )
                export_checkpoint(checkpoint, output, options)
    return output


def ct2_path(name: str, cache: Path = DEFAULT_CACHE, precision: str = "fp32", *, forced: bool = False) -> Path:
    """The folder of a CTranslate2 model of the same weights. `compute_type` quantises one in fp32 at loading.

    Its tokens are the pieces of Dragoman's tokenizer (`source_pieces`). Every source must end with `</s>`.
    """
    checkpoint = checkpoint_path(name, cache, forced=forced)
    code = sorted((ROOT / "export" / "dragoman_export" / "elsewhere").glob("*.py"))
    with _making(cache, f"ct2-{_digest(*code, Path(__file__), checkpoint)}-{precision}") as (output, there):
        if not there:
            write_ct2(checkpoint, output, precision)
    return output


def write_ct2(checkpoint: Path, output: Path, precision: str = "fp32") -> None:
    """Write a checkpoint as a folder of CTranslate2 that adds no `</s>` to sources: those of benchmarks have it."""
    write_elsewhere(checkpoint, "ctranslate2", output, precision)
    config = output / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"add_source_eos": False}))


def checkpoint_path(name: str, cache: Path = DEFAULT_CACHE, *, forced: bool = False) -> Path:
    """The folder of the PyTorch checkpoint from which the other formats are made."""
    if name not in MODELS:
        raise InvalidInput("model", name, ", ".join(MODELS))
    digest = _digest(Path(__file__).parent / "grow.py", BUNDLED / "manifest.json")
    with _making(cache, f"checkpoints-{digest}/{name}{'-forced' * forced}") as (output, there):
        if not there:
            _write_checkpoint(name, output, forced)
    return output


def marian_path(name: str, cache: Path = DEFAULT_CACHE) -> Path:
    """The folder of a MarianMTModel of the same sizes, with random weights. It never ends a sentence."""
    from bench.peers.marian import write_marian  # noqa: PLC0415 - transformers takes seconds to import

    checkpoint = checkpoint_path(name, cache)
    with _making(cache, f"marian-{_digest(MARIAN, checkpoint)}/{name}") as (output, there):
        if not there:
            write_marian(load_checkpoint(checkpoint).config.model, output)
    return output


def marian_onnx_path(name: str, precision: str, cache: Path = DEFAULT_CACHE) -> Path:
    """The folder of the model that optimum-onnx exports from `marian_path`: fp32, or dynamically quantised int8."""
    from bench.peers.marian import write_marian_onnx  # noqa: PLC0415

    marian = marian_path(name, cache)
    with _making(cache, f"{marian.parent.name}/{name}-onnx-{precision}") as (output, there):
        if not there:
            write_marian_onnx(marian, output, precision)
    return output


def load_model(name: str, cache: Path = DEFAULT_CACHE, *, forced: bool = False) -> Checkpoint:
    """The PyTorch model and its tokenizer."""
    return load_checkpoint(checkpoint_path(name, cache, forced=forced))


def source_pieces(checkpoint: Checkpoint, sources: list[list[int]]) -> list[list[str]]:
    """Token ids as the strings that CTranslate2 takes."""
    return [checkpoint.tokenizer.pieces(ids) for ids in sources]


def _write_checkpoint(name: str, output: Path, forced: bool) -> None:
    bundle = Bundle.load(BUNDLED)
    manifest = bundle.manifest
    model = read_model(BUNDLED, manifest.architecture)
    tokenizer_model = (BUNDLED / "tokenizer.model").read_bytes()
    if name in GROWN:
        settings = {"norm": "pre", "max_positions": model.config.max_positions, **GROWN[name]}
        config = ModelConfig.from_settings(settings)
        model, tokenizer_model = grow(model, config), grow_tokenizer(tokenizer_model, config.vocab_size)
    if forced:
        model = without_end(model, SPECIAL_IDS["end_id"])
    config_file = CheckpointConfig(
        model=model.config,
        language_pairs=tuple(manifest.languages.all_pairs()),
        max_source_tokens=manifest.limits.max_source_tokens,
        max_target_tokens=manifest.limits.max_target_tokens + 1,
        training=manifest.training,
    )
    save_checkpoint(output, model.state_dict(), config_file, tokenizer_model)


@contextmanager
def _making(cache: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """Lock the entry `name` of the cache for one process. Yields its path and whether it exists.

    An entry that did not exist is removed if the body raises.
    """
    path = cache.expanduser() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = path.exists()
        if not there:
            progress(f"making {name}")
        try:
            yield path, there
        except BaseException:
            if not there:
                shutil.rmtree(path, ignore_errors=True)
            raise


def _code_digest() -> str:
    """Digest of the code that determines the contents of a bundle."""
    service = sorted((ROOT / "service" / "dragoman_service" / "bundle").glob("*.py"))
    export = sorted((ROOT / "export").rglob("*.py"))
    return _digest(*export, *service, ROOT / "bench" / "peers" / "grow.py", BUNDLED / "manifest.json")


def _digest(*paths: Path) -> str:
    """Digest of the contents of files, or of the names of cache folders, which include a digest.

    Raises FileNotFoundError for a path that does not exist: it would stand for whatever comes there later.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        digest.update(path.read_bytes() if path.is_file() else str(path.name + path.parent.name).encode())
    return digest.hexdigest()[:12]
