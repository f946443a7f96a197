"""The speed benchmark on tiny models: what it says is the same work is the same work."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distill.modeling.forward import forward_at_positions
from tests.factories import make_model

OURS = ["live", "live_fp32", "cached", "fine_tuning"]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    folder = str(Path(__file__).parents[2] / "experiments" / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def work(tmp_path_factory, corpus, pretrained, _importable):
    from contestants.work import Work, lay_out

    work = Work(tmp_path_factory.mktemp("work"), batch_size=16, max_length=24, layers=[0, 2])
    return lay_out(work, corpus, 40, str(pretrained))


def test_everybody_gets_the_same_loss_and_gradient(work):
    from against_others import check_losses

    found = check_losses(work, OURS)
    assert set(found) == {"by_hand", "live", "live_fp32", "cached"}
    assert found["live_fp32"]["loss"] == pytest.approx(found["by_hand"]["loss"], abs=1e-5)


def test_another_loss_is_found_out(work, monkeypatch):
    import against_others
    from contestants.distill_training import live_fp32

    other = dataclasses.replace(work, hard=0.6)
    other.write()
    monkeypatch.setattr(against_others, "maker", lambda _: lambda _: _fresh(live_fp32, other))
    with pytest.raises(AssertionError, match="has another loss"):
        against_others.check_losses(work, ["live_fp32"])
    work.write()


def _fresh(prepare, work):
    from contestants.distill_training import parts_of

    parts_of.cache_clear()
    made = prepare(work)
    parts_of.cache_clear()
    return made


@pytest.mark.parametrize("name", OURS)
def test_a_pass_is_timed_from_the_first_batch_to_the_last_step(work, name):
    from against_others import one_pass

    assert work.steps == 3  # 16, 16 and 8
    clock = one_pass(work, name)
    assert clock.done == 3 and 0 < clock.wall < 60 and clock.processor > 0


def test_the_clock_counts_neither_before_nor_after(monkeypatch):
    from contestants import clock as module

    now = [0.0]

    class Time:
        perf_counter = process_time = staticmethod(lambda: now[0])

    monkeypatch.setattr(module, "time", Time)
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight])

    def batches():
        for _ in range(2):
            now[0] += 1  # fetching
            yield 0

    class Loader:
        sampler = "its own"

        def __iter__(self):
            return batches()

        def __len__(self):
            return 2

    clock = module.Clock(2, torch.device("cpu"))
    loader = clock.timed(Loader())
    assert len(loader) == 2 and loader.sampler == "its own"
    with clock.running():
        now[0] += 100  # setting up
        for _ in loader:
            now[0] += 10
            optimizer.step()
        now[0] += 100  # validation
    assert clock.wall == clock.processor == 22
    with pytest.raises(AssertionError, match="1 optimizer steps in place of 2"), clock.running():
        clock.start()
        optimizer.step()


def test_operations_of_a_step_are_those_that_torch_counts():
    from peak import step_flops

    # The eager attention is made of products that torch's counter sees.
    model = make_model(layers=3, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        for count, length in ((4, 10), (2, 7)):
            model(input_ids=torch.ones(count, length, dtype=torch.long)).logits.sum().backward()
    assert step_flops(model.config, [(4, 10), (2, 7)], whole=True) == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for count, length in ((4, 10), (2, 7)):
            ids = torch.ones(count, length, dtype=torch.long)
            forward_at_positions(model, {"input_ids": ids}).logits.sum().backward()
    assert step_flops(model.config, [(4, 10), (2, 7)]) == counter.get_total_flops()


def test_a_step_is_the_sum_of_its_parts(work):
    from step_parts import parts

    table = parts(work, tries=1)
    whole = table.pop("step")
    assert sum(wall for wall, _ in table.values()) == pytest.approx(whole[0])
    assert all(table[name][0] > 0 for name in ("data and collation", "forward", "backward"))
    assert min(wall for wall, _ in table.values()) > -0.1


def test_stored_outputs_are_compared_with_the_same_forward_passes(work):
    from step_parts import cached_over_plain, outputs_over_forward

    found = outputs_over_forward(work, rounds=1)
    assert 0 < found["share_wall"] <= 1.5 and found["examples_per_second"] > 0
    assert 0.2 < cached_over_plain(work, batches=2, rounds=1) < 5
