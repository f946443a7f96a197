"""The processes of a run: started or joined, given functions to call, and ended."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import distributed

from distill.core.errors import UserError
from distill.distributed import pickling
from distill.distributed.environment import ProcessRank

# Rank, world size, port and the parent's process id, for a process that the first one starts.
WORKER_VARIABLE = "DISTILL_WORKER"

# How long a process waits for the first one to need it: it may prepare much data before.
JOIN_TIMEOUT = timedelta(days=30)

# How long the first process waits for one that it has told to stop, in seconds. It has nothing left
# to do but to end, which takes long only on a busy machine.
SHUTDOWN_TIMEOUT = 60.0

# How long a process may still report an error of its own after another one has ended, in seconds.
FAILURE_TIMEOUT = 30.0

STOP = "stop"


class WorkerGroup:
    """The processes of a run as one of them sees them.

    The first process is the only one that may :meth:`call` and that ends the others, by
    :meth:`shutdown` or :meth:`abandon`; the others :meth:`serve`.

    Args:
        store: where the first process announces the next call.
        process: this process's rank.
        workers: processes that this one has started.
    """

    def __init__(
        self,
        store: distributed.Store,
        process: ProcessRank,
        workers: Sequence[subprocess.Popen[bytes]] = (),
    ):
        self.store, self.process, self.workers = store, process, workers
        self._calls, self._ended = 0, threading.Event()
        for worker in workers:
            threading.Thread(target=self._watch, args=(worker,), daemon=True).start()

    @classmethod
    def start(cls, world_size: int) -> "WorkerGroup":
        """Start the other processes on this machine."""
        # Port 0: the system chooses a free one, and nobody can take it in between.
        store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100
        workers: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, world_size):
                place = f"{rank} {world_size} {store.port} {os.getpid()}"
                workers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "distill.distributed.worker"],
                        stdin=subprocess.DEVNULL,
                        env=os.environ | {WORKER_VARIABLE: place, "PYTHONPATH": path},
                    )
                )
        except BaseException:
            _kill(workers)
            raise
        return cls(store, ProcessRank(0, world_size, 0, world_size), workers)

    @classmethod
    def join_parent(cls) -> "WorkerGroup":
        """Join the process that has started this one."""
        rank, world_size, port, _ = map(int, os.environ[WORKER_VARIABLE].split())
        store = distributed.TCPStore("127.0.0.1", port, is_master=False)
        return cls(store, ProcessRank(rank, world_size, rank, world_size))

    @classmethod
    def join_external(cls, process: ProcessRank) -> "WorkerGroup":
        """Join the other processes that torchrun or srun has started, and wait for them.

        Args:
            process: this process's rank.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
            os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
            # Of this step: two may run side by side.
            number = int(os.environ["SLURM_JOB_ID"]) * 31 + int(os.environ["SLURM_STEP_ID"])
            os.environ.setdefault("MASTER_PORT", str(15000 + number % 15000))
        rendezvous = distributed.rendezvous(
            "env://", process.rank, process.world_size, timeout=JOIN_TIMEOUT
        )
        store, _, _ = next(rendezvous)
        return cls(store, process)

    def call(
        self,
        accelerator: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        """Call a function in all processes; return this process's result.

        Args:
            accelerator: what the processes compute on.
            function: takes the process's :class:`ProcessRank`, then the arguments.
            arguments: for the function.
            named: for the function.
        """
        if self._ended.is_set():
            raise UserError("the other processes have ended with a run that failed before")
        self._announce(accelerator)
        self._connect(accelerator)
        distributed.broadcast_object_list([pickling.dumps((function, arguments, named))])
        with self._shared_threads():
            return function(self.process, *arguments, **named)

    def serve(self) -> None:
        """Call what the first process calls, until it says that it is done."""
        while True:
            key = f"call {self._calls}"
            self.store.wait([key], JOIN_TIMEOUT)
            announced = self.store.get(key).decode()
            if announced == STOP:
                return
            self._calls += 1
            self._connect(announced)
            content: list[Any] = [None]
            distributed.broadcast_object_list(content)
            function, arguments, named = pickling.loads(content[0])
            with self._shared_threads():
                function(self.process, *arguments, **named)
            del function, arguments, named

    def shutdown(self) -> None:
        """Tell the other processes to stop, and wait until those started here have ended."""
        if self._ended.is_set():
            return
        self._ended.set()
        with suppress(RuntimeError):  # external ones may be gone, and the store with them
            self._announce(STOP)
        try:
            for worker in self.workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(SHUTDOWN_TIMEOUT)
        finally:
            _kill(self.workers)
            self._disconnect()

    def abandon(self) -> None:
        """End the other processes in the middle of a call."""
        self._ended.set()
        _kill(self.workers)
        self._disconnect()

    def _announce(self, what: str) -> None:
        self.store.set(f"call {self._calls}", what)
        self._calls += 1

    def _connect(self, accelerator: str) -> None:
        if distributed.is_initialized():
            return
        if accelerator == "cuda":
            torch.cuda.set_device(self.process.local_rank)
        rank_zero_only.rank = self.process.rank  # type: ignore[attr-defined]
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
            store=distributed.PrefixStore("distill", self.store),
            rank=self.process.rank,
            world_size=self.process.world_size,
        )

    def _disconnect(self) -> None:
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()

    @contextmanager
    def _shared_threads(self) -> Iterator[None]:
        """Share the threads of this machine among its processes."""
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // self.process.local_world_size))
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _watch(self, worker: subprocess.Popen[bytes]) -> None:
        """End this process after another one has ended: over NCCL it would wait for it for long."""
        worker.wait()
        # Over gloo this process gets an error and ends by itself, with a traceback.
        if not self._ended.wait(FAILURE_TIMEOUT):
            print("error: a process of this run has ended", file=sys.stderr, flush=True)
            os._exit(1)


def _kill(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and wait for them: a Popen must not be left to the garbage collector."""
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.wait()
