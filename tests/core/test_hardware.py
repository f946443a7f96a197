"""Device and precision; and that freed memory is kept, counted in page faults of a process."""

import os
import subprocess
import sys

import pytest
import torch

from distill.core.errors import UserError
from distill.core.hardware import Hardware, resolve_hardware

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
    left_alone, many = run(MALLOC_TRIM_THRESHOLD_="131072")  # the user has configured malloc
    assert kept and not left_alone
    assert faults < 1000 < 10_000 < many


def test_cpu_and_precisions_by_their_short_names():
    assert resolve_hardware("cpu", 32) == Hardware(torch.device("cpu"), "32-true")
    assert resolve_hardware("cpu", "bf16").precision == "bf16-mixed"
    assert resolve_hardware("cpu", "auto").precision in ("32-true", "bf16-mixed")


@pytest.mark.parametrize(
    ("accelerator", "precision", "says"),
    [
        ("tpu", "auto", "trainer.accelerator=tpu: choose one of auto, cpu"),
        ("cpu", "8", "trainer.precision=8: choose one of auto, 32-true"),
        ("cpu", "16-mixed", "needs a GPU"),
    ],
)
def test_impossible_choices_are_refused(accelerator, precision, says):
    with pytest.raises(UserError, match=says):
        resolve_hardware(accelerator, precision)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"{accelerator}: torch finds no such device"):
        resolve_hardware(accelerator)


def test_gpu_may_be_any(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_hardware("gpu", "32-true").accelerator == "mps"
    with pytest.raises(UserError, match="cuda: torch finds"):
        resolve_hardware("cuda")
