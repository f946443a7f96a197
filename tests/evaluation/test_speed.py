import gc
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from distill.data.dataset import DistillationDataset
from distill.evaluation import speed
from distill.evaluation.speed import _LiveTensors, measure_speed
from tests.factories import collator, encoded, make_model


@pytest.fixture(autouse=True)
def _thorough(speed_defaults, monkeypatch):
    for name, value in speed_defaults.items():
        monkeypatch.setattr(speed, name, value)


def test_a_deeper_model_is_slower_and_both_are_measured_alike(tokenizer, monkeypatch):
    monkeypatch.setattr(speed, "EXAMPLES", 8)
    examples = DistillationDataset(encoded(tokenizer, 60), collator(tokenizer))
    models = {"deep": make_model(layers=12), "flat": make_model(layers=1)}
    threads = torch.get_num_threads()
    speeds = measure_speed(models, dict.fromkeys(models, examples), torch.device("cpu"), rounds=2)
    assert torch.get_num_threads() == threads
    assert speeds["deep"].latency_ms.p50 > 2 * speeds["flat"].latency_ms.p50
    assert speeds["deep"].cpu_ms.p50 > 2 * speeds["flat"].cpu_ms.p50
    for measured in speeds.values():
        assert 0 < measured.latency_ms.p50 <= measured.latency_ms.p95
        assert measured.latency_ms.p50 <= measured.latency_ms_median_round.p50
        assert measured.cpu_ms.p50 <= measured.latency_ms_median_round.p50 * 1.1
        assert measured.examples_per_second > 0
        assert measured.threads == threads
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


def test_models_of_one_shape_are_timed_alike_wherever_they_stand(tokenizer):
    """A large model before either of them evicts its weights and code from the caches."""
    examples = DistillationDataset(encoded(tokenizer, 12), collator(tokenizer))
    wide = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    large = make_model(layers=3, **wide)
    models = {"student": make_model(layers=1), "control": make_model(layers=1)}
    for order in (("large", "student", "control"), ("control", "large", "student")):
        for _ in range(3):  # a neighbor may slow one of them down for longer than its turns
            speeds = measure_speed(
                {role: models.get(role, large) for role in order},
                dict.fromkeys(order, examples),
                torch.device("cpu"),
            )
            ratio = speeds["student"].cpu_ms.p50 / speeds["control"].cpu_ms.p50
            if 0.95 < ratio < 1.05:
                break
        assert 0.95 < ratio < 1.05, order
        assert speeds["large"].cpu_ms.p50 > 2 * speeds["student"].cpu_ms.p50


def test_turns_alternate_and_begin_with_another_model_each_round(monkeypatch):
    taken = []

    class Stub(speed._Clock):
        def take_turn(self):
            taken.append(self._model)
            self._passes.append([(self._inputs, self._inputs)])
            self._sums.append(self.seconds)

    monkeypatch.setattr(speed, "_Clock", Stub)
    models, inputs = {"a": "a", "b": "b", "c": "c"}, {"a": 3.0, "b": 1.0, "c": 1.05}
    speed._time_in_turns(models, inputs, torch.device("cpu"), rounds=4)
    assert "".join(taken) == "abc" + "bca" + "cab" + "abc"  # all are settled


def test_a_model_whose_times_still_fall_goes_on_with_those_that_take_no_longer(monkeypatch):
    taken = []

    class Stub(speed._Clock):
        def take_turn(self):
            taken.append(self._model)
            seconds = self._inputs - (0.05 * len(taken) if self._model == "b" else 0.0)
            self._passes.append([(seconds, seconds)])
            self._sums.append(self.seconds)

    monkeypatch.setattr(speed, "_Clock", Stub)
    models, inputs = {"a": "a", "b": "b", "c": "c"}, {"a": 90.0, "b": 9.0, "c": 1.0}
    speed._time_in_turns(models, inputs, torch.device("cpu"), rounds=4)
    assert taken.count("a") == 4
    assert taken.count("b") == taken.count("c") > 4
    assert taken.count("b") <= speed.PATIENCE * 4


def test_garbage_is_not_collected_while_models_are_timed():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with speed._no_garbage_collection():
                assert not gc.isenabled()
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


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
