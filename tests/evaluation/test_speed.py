import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from distill.data.dataset import DistillationDataset
from distill.evaluation.speed import _LiveTensors, measure_speed
from tests.factories import collator, encoded, make_model


def test_a_deeper_model_is_slower_and_both_are_measured_alike(tokenizer):
    examples = DistillationDataset(encoded(tokenizer, 60), collator(tokenizer))
    models = {"deep": make_model(layers=12), "flat": make_model(layers=1)}
    threads = torch.get_num_threads()
    speeds = measure_speed(models, dict.fromkeys(models, examples), torch.device("cpu"), rounds=2)
    assert torch.get_num_threads() == threads
    assert speeds["deep"].latency_ms.p50 > 2 * speeds["flat"].latency_ms.p50
    assert speeds["deep"].cpu_ms.p50 > 2 * speeds["flat"].cpu_ms.p50
    for speed in speeds.values():
        assert 0 < speed.latency_ms.p50 <= speed.latency_ms.p95
        assert speed.latency_ms.p50 <= speed.latency_ms_median_round.p50
        assert speed.cpu_ms.p50 <= speed.latency_ms_median_round.p50 * 1.1
        assert speed.examples_per_second > 0
        assert speed.threads == threads
    assert speeds["deep"].peak_memory_bytes > speeds["flat"].peak_memory_bytes


def test_latency_is_taken_with_one_thread_at_batch_1(tokenizer):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model(layers=1)

        def forward(self, input_ids, attention_mask=None, token_type_ids=None):
            seen.append((len(input_ids), torch.get_num_threads()))
            return self.inner(input_ids, attention_mask)

    examples = DistillationDataset(encoded(tokenizer, 60), collator(tokenizer))
    measure_speed({"spy": Spy()}, {"spy": examples}, torch.device("cpu"), rounds=1)
    assert {threads for size, threads in seen if size == 1} == {1, torch.get_num_threads()} or {
        threads for size, threads in seen if size == 1
    } == {1}
    assert seen[0] == (1, 1)


def test_peak_memory_counts_what_is_alive_at_once():
    with torch.inference_mode():
        x = torch.zeros(1000)
        with _LiveTensors() as live:
            y = x + 1  # 4000 bytes
            y = y * 2  # 4000 more, then the first go
            z = y.view(10, 100) @ y.view(100, 10)  # 400; views are not counted
            del y
            w = x + 1
        assert live.peak == 8000
        assert live.current == 4400
        del z, w


@contextmanager
def busy_process():
    """A program that never rests, from its first multiplication to the end of the block."""
    work = "import numpy as np; a = np.ones((300, 300)); print(flush=True)\nwhile True: a @ a"
    with subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_the_ranking_is_the_same_beside_two_busy_neighbors(tokenizer):
    """Four models, each at least twice as costly as the next, beside programs that never rest."""
    depths = (1, 4, 10, 24)
    examples = DistillationDataset(encoded(tokenizer, 30), collator(tokenizer))
    models = {str(depth): make_model(layers=depth) for depth in depths}

    def ranking():
        speeds = measure_speed(
            models, dict.fromkeys(models, examples), torch.device("cpu"), rounds=7
        )
        return [
            sorted(models, key=lambda name: getattr(speeds[name], figure).p50)
            for figure in ("latency_ms", "cpu_ms")
        ]

    alone = ranking()
    with busy_process() as first, busy_process() as second:
        beside = ranking()
        assert first.poll() is second.poll() is None
    assert alone == beside == [[str(depth) for depth in depths]] * 2
