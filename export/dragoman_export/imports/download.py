"""Checkpoints on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from dragoman_service.errors import InvalidInput

_PREFIX = "hf:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9._/-]+)?")
_WANTED = ("*.json", "*.safetensors", "*.model", "*.spm", "*.txt", "*.npz", "*.yml", "*.yaml", "README.md", "model.bin")
_PICKLE = "pytorch_model*.bin"


def checkpoint_at(place: str) -> Path:
    """The path of a checkpoint: `place`, or of `hf:OWNER/NAME[@REVISION]` the folder into which it is downloaded.

    A download that was interrupted goes on where it stopped. A pickle is downloaded only if there are no safetensors.

    Raises:
        InvalidInput: the name is not valid, or the download fails.
    """
    if not place.startswith(_PREFIX):
        return Path(place)
    name = place.removeprefix(_PREFIX)
    if not _NAME.fullmatch(name):
        raise InvalidInput("checkpoint", place, "hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    # The library is an extra, and reads its settings (HF_TOKEN, HF_ENDPOINT) when it is imported.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    repository, _, revision = name.partition("@")
    try:
        files = HfApi().list_repo_files(repository, revision=revision or None)
        patterns = [*_WANTED, *([] if any(it.endswith(".safetensors") for it in files) else [_PICKLE])]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise InvalidInput("checkpoint", place, f"a model that can be downloaded ({error})") from error
