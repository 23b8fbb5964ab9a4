"""Text that is larger than the memory that preparing and training may take."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dragoman_model.data.augment import augment
from dragoman_model.data.batches import plan_epoch
from dragoman_model.data.mixture import one_epoch, read_parts
from dragoman_model.data.pair_store import StoredPairs
from support.tiny_model import make_recipe

# RLIMIT_DATA bounds what a process has written to that is no file, and what it may write to: heap, stacks and so on.
PROGRAM = """
import ctypes, random, resource, sys, torch
from pathlib import Path
for parameter, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD: what is free stays the process's
    ctypes.CDLL(None).mallopt(parameter, value)
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from dragoman_model.data.prepare import prepare
from dragoman_model.training.train import Trainer
from support.tiny import WORDS
from support.tiny_model import make_recipe

folder, extra = Path(sys.argv[1]), int(sys.argv[3])
augmentation = {"lower": 0.02, "joined": 0.02}
recipe = make_recipe(
    tokenizer={"sample_sentences": 500},
    data={"max_tokens": 1000, "augmentation": augmentation},
    model={"max_positions": 1000, "dropout": 0.0},
    training={"max_steps": 2, "validate_every": 2, "batch_tokens": 400},
)
for name in ("valid.en", "valid.de"):
    (folder / name).write_text("the cat sees a dog\\n")

def run(size):
    rng = random.Random(1)
    with (folder / "train.tsv").open("w") as file:
        while file.tell() < size:
            line = "\\t".join(" ".join(rng.choices(WORDS, k=80)) for _ in range(2)) + "\\n"
            file.write(line * (1 + (rng.random() < 0.05)))
    data = prepare(recipe, folder, None, folder / "cache")
    if size > 3_000_000:  # other lengths, other tensors: the heap is never packed as before
        resource.setrlimit(resource.RLIMIT_DATA, (used + 4 * extra, -1))
    Trainer(recipe, data, folder / f"run-{size}", torch.device("cpu")).run()
    return data.train._source_ids.nbytes + data.train._target_ids.nbytes

run(3_000_000)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData:")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + extra, -1))
print("ids", run(10 * extra))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_text_of_ten_times_the_memory_is_prepared_and_trained_on(tmp_path: Path) -> None:
    """The memory is what is there beside what a text of 3 MB has needed at most; training gets four times as much."""
    extra = 6_000_000
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parents[1]), str(extra)]
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}  # else a thread that allocates first reserves much at once
    command = ["sh", "-c", 'ulimit -s 1024 && exec "$@"', "sh", *command]  # the stack of a thread counts as a whole
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) >= 10 * extra


def test_the_order_of_an_epoch_takes_few_bytes_a_pair() -> None:
    count = 500_000
    lengths = np.random.default_rng(0).integers(5, 60, (count, 2), dtype=np.int32)
    weights = np.ones(count)
    tracemalloc.start()
    try:
        plan = plan_epoch(lengths, weights, 500, seed=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, plan)) == count
    assert peak / count < 12


@pytest.mark.slow
def test_cleaning_and_augmenting_hold_no_text(tmp_path: Path) -> None:
    (tmp_path / "valid.en").write_text("one\n")
    (tmp_path / "valid.de").write_text("one\n")
    count, side = 4_000, "a word and " * 40
    with (tmp_path / "train.tsv").open("w") as file:
        for number in range(count):
            file.write(f"{number} {side}\t{side} {number}\n" * (1 + number % 2))
    recipe = make_recipe(data={"augmentation": {"lower": 0.3, "joined": 0.3, "swapped": 0.02, "numbers": 1.0}})
    names = iter(range(9))
    list(augment([("12", "12")], ("en", "de"), recipe.data.augmentation, 1))  # reads the notations of languages
    tracemalloc.start()
    try:
        (part,) = read_parts(recipe, tmp_path, lambda: StoredPairs(tmp_path / f"store-{next(names)}"))
        assert sum(1 for _ in one_epoch([part], seed=1)) == len(part.pairs) > 1.5 * count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert part.report.dropped == {"duplicate": count // 2}
    text = sum((tmp_path / f"store-0.{kind}").stat().st_size for kind in ("text", "ends"))
    assert peak < text / 2, "1 MB each of what is kept and of what is made is not written at once"
