from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Blocks as of activations come and go: pages that the kernel must clear anew are faults.
PROGRAM = """
import random, resource, sys, torch
from dragoman_model.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
sizes = random.Random(0)
def update():
    return [torch.ones(sizes.randint(1 << 18, 1 << 20)) for _ in range(20)]
for _ in range(10):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("keep") < faults("default") / 2
