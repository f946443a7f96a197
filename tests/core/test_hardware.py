"""Freed memory is kept: counted in page faults, in a process of its own."""

import os
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from distill.core.hardware import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(12_000_000)  # 48 MB: beyond what glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_a_large_block_is_taken_from_the_system_once():
    def run(**more):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | more
        done = subprocess.run(
            [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        kept, faults = done.stdout.split()
        return kept == "True", int(faults)

    kept, faults = run()
    left_alone, many = run(MALLOC_TRIM_THRESHOLD_="131072")  # the user has said otherwise
    assert kept and not left_alone
    assert faults < 1000 < 10_000 < many
