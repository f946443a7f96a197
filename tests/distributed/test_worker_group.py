"""Processes are ended and waited for where they were started."""

import subprocess
import sys

import pytest
from torch import distributed

from distill.distributed import worker_group
from distill.distributed.environment import ProcessRank
from distill.distributed.worker_group import WorkerGroup

IDLE = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def group(monkeypatch):
    """Two processes that do not stop by themselves."""
    monkeypatch.setattr(worker_group, "SHUTDOWN_TIMEOUT", 0.1)
    workers = [subprocess.Popen(IDLE) for _ in range(2)]
    yield WorkerGroup(distributed.HashStore(), ProcessRank(0, 3, 0, 3), workers)
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("end", [WorkerGroup.shutdown, WorkerGroup.abandon])
def test_processes_that_do_not_stop_are_killed_and_waited_for(group, end):
    end(group)
    assert all(worker.returncode for worker in group.workers)
    end(group)  # nothing is left to do


def test_processes_are_killed_where_not_all_of_them_can_be_started(monkeypatch):
    started = []
    original = subprocess.Popen

    def start(*arguments, **settings):
        if started:
            raise OSError("no more processes")
        started.append(original(IDLE))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(OSError, match="no more processes"):
        WorkerGroup.start(3)
    assert started[0].returncode
