"""Processes that torchrun or srun has started are detected."""

from distill.distributed.environment import ProcessRank, external_process_rank
from tests.distributed.variables import SRUN, TORCHRUN


def test_torchrun_and_srun_are_recognized(monkeypatch):
    assert external_process_rank() is None
    for variables in (TORCHRUN, SRUN):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert external_process_rank() == ProcessRank(3, 4, 1, 2)
    for name, value in (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}).items():
        monkeypatch.setenv(name, value)  # a job of its own
    assert external_process_rank() is None
