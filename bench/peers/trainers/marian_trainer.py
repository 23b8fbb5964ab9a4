"""Worker for Marian's trainer, through pymarian, in fp32, its only precision for training on a CPU.

Marian has its own training loop, so each round starts it for a number of updates. The first display is left out,
because memory is allocated before it. Tokens and seconds are those of the later displays, whose `words/s` are target
words with the end of each sentence and without padding.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import worker

DISPLAY = 10
"""Updates between two displays."""
LINE = re.compile(r"Time ([0-9.]+)s : ([0-9.]+) words/s")


def prepare(settings: worker.Settings) -> Callable[[], worker.Round]:
    """Write the text to files, and return a function that trains on it for a round."""
    if settings.precision != "fp32":
        raise ValueError(f"no {settings.precision}: Marian trains in fp32 on a CPU")
    folder, ids = Path(tempfile.mkdtemp(dir=settings.folder)), worker.read_ids(settings)
    command = _command(settings, ids, folder)
    seconds_of_update = 0.0

    def make_round() -> worker.Round:
        nonlocal seconds_of_update
        displays = max(2, math.ceil(settings.seconds / seconds_of_update / DISPLAY)) if seconds_of_update else 2
        options = [
            "--after-batches",
            str((displays + 1) * DISPLAY),
            "--model",
            str(folder / "model.npz"),
            "--overwrite",
        ]
        before, started = os.times(), time.perf_counter()
        done = subprocess.run(command + options, capture_output=True, text=True, check=False)
        found = [(float(passed), float(rate)) for passed, rate in LINE.findall(done.stdout + done.stderr)][1:]
        if done.returncode or len(found) != displays:
            raise RuntimeError(f"Marian ended with {done.returncode}: {done.stderr[-2000:]}")
        for file in folder.glob("model.npz*"):
            file.unlink()  # the next round would continue from it
        seconds = sum(passed for passed, _ in found)
        tokens = sum(passed * rate for passed, rate in found)
        if settings.cpu_time:  # scale by the processor time of the whole process over its elapsed time
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            seconds *= used / (time.perf_counter() - started)
        seconds_of_update = seconds / displays / DISPLAY
        return worker.Round(round(tokens), displays * DISPLAY, seconds)

    return make_round


def _command(settings: worker.Settings, ids: worker.Ids, folder: Path) -> list[str]:
    """Write text and vocabulary to `folder`. Returns Marian's command line without the number of updates."""
    paths = []
    for language, sentences in (("en", ids.source), ("de", ids.target)):
        paths.append(str(folder / f"text.{language}"))
        lines = (" ".join(f"w{i}" for i in sentence) for sentence in sentences)
        Path(paths[-1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    vocabulary = folder / "vocabulary.yml"
    words = "".join(f"w{i}: {i - 1}\n" for i in range(3, ids.vocabulary + 1))
    vocabulary.write_text(f'"</s>": 0\n"<unk>": 1\n{words}', encoding="utf-8")
    options = f"""
        --type transformer --dim-emb 256 --transformer-dim-ffn 1024 --transformer-heads 4 --enc-depth 6 --dec-depth 2
        --dim-vocabs {ids.vocabulary} {ids.vocabulary} --tied-embeddings-all --transformer-ffn-activation relu
        --transformer-preprocess n --transformer-postprocess da --transformer-postprocess-top n
        --transformer-dropout 0.1 --transformer-dropout-attention 0 --transformer-dropout-ffn 0
        --cost-type ce-mean-words --label-smoothing 0.1 --optimizer adam --optimizer-params 0.9 0.98 1e-09
        --learn-rate 0.0001 --clip-norm 1 --max-length 256 --mini-batch 1000 --mini-batch-words {settings.batch_tokens}
        --mini-batch-round-up=false --maxi-batch 1000 --maxi-batch-sort src --sync-sgd --cpu-threads {settings.threads}
        --workspace 4000 --disp-freq {DISPLAY}u --no-restore-corpus --tempdir {folder}
    """
    return [
        *(sys.executable, "-m", "pymarian", "train", *options.split()),
        *("--train-sets", *paths, "--vocabs", str(vocabulary), str(vocabulary)),
    ]


if __name__ == "__main__":
    worker.serve(prepare, ["pymarian"])
