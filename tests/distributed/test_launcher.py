"""Settings that cannot work are refused; functions are called in all processes."""

import pickle

import pytest

from distill.core.errors import UserError
from distill.distributed.collectives import all_gather_object
from distill.distributed.environment import SINGLE_PROCESS, ProcessRank
from distill.distributed.launcher import ProcessLauncher
from tests.distributed.variables import TORCHRUN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "dpp"}, "trainer.strategy=dpp: choose one of auto, ddp"),
        ({"devices": 0}, "trainer.devices=0: it must be 1 or more"),
        ({"num_nodes": 0}, "trainer.num_nodes=0: it must be 1 or more"),
        ({"devices": 2}, "trainer.devices=2 needs a strategy: trainer.strategy=ddp"),
        ({"strategy": "ddp", "num_nodes": 2}, "start the command on every node"),
        ({"strategy": "ddp", "devices": 2, "accelerator": "mps"}, "there is one device"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(UserError) as refused:
        ProcessLauncher(**settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "4 processes were started from outside, use trainer.strategy=ddp"),
        ({"strategy": "ddp", "devices": "auto"}, "so there are 2 nodes"),
        ({"strategy": "ddp_spawn", "devices": "auto"}, "so there are 2 nodes"),
        ({"strategy": "ddp", "num_nodes": 2, "devices": 3}, "2 of them on this machine"),
        ({"strategy": "ddp", "num_nodes": 2, "devices": "auto"}, None),
        ({"strategy": "ddp_spawn", "num_nodes": 2, "devices": "auto"}, None),
    ],
)
def test_settings_that_do_not_fit_external_processes_are_refused(monkeypatch, settings, message):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    if message is None:
        assert ProcessLauncher(**settings).world_size == 4
        return
    with pytest.raises(UserError) as refused:
        ProcessLauncher(**settings)
    assert message in str(refused.value)


def test_ddp_spawn_is_an_alias():
    assert ProcessLauncher("ddp_spawn", 2).strategy == ProcessLauncher("ddp", 2).strategy == "ddp"


def test_one_process_calls_the_function_itself():
    assert ProcessLauncher().run_on_all_ranks(lambda *given: given, 1) == (SINGLE_PROCESS, 1)


def gather(process: ProcessRank, value: str) -> list[tuple[int, str]]:
    return all_gather_object((process.rank, value), process.world_size)


def fail_in_worker(process: ProcessRank) -> None:
    if process.rank:
        raise ValueError("a worker's own mistake")
    all_gather_object(None, process.world_size)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_processes_live_as_long_as_the_block():
    launcher = ProcessLauncher("ddp", 2)
    with launcher.worker_group():
        for value in ("first", "second"):
            assert launcher.run_on_all_ranks(gather, value) == [(0, value), (1, value)]
        (worker,) = launcher._workers.workers
        assert worker.poll() is None
        assert pickle.loads(pickle.dumps(launcher))._workers is None
    assert worker.returncode == 0
    with pytest.raises(AssertionError, match="worker_group"):
        launcher.run_on_all_ranks(gather, "third")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_failure_in_a_worker_fails_the_call_and_ends_all_processes(capfd):
    launcher = ProcessLauncher("ddp", 2)
    with launcher.worker_group():
        with pytest.raises(RuntimeError):
            launcher.run_on_all_ranks(fail_in_worker)
        (worker,) = launcher._workers.workers
        assert worker.returncode == 1
        with pytest.raises(UserError, match="have ended"):
            launcher.run_on_all_ranks(gather, "again")
    assert "a worker's own mistake" in capfd.readouterr().err
