"""distill.distributed.workers"""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import distributed, nn
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.distributed.collectives import _rank_and_world_size
from distill.distributed.environment import ProcessRank, external_launcher
from distill.modeling.families import layer_stack

STRATEGIES = ("auto", "ddp", "ddp_spawn", "fsdp")


# Rank, number and port, for a process that the first one starts.
WORKER_VARIABLE = "DISTILL_HELPER"


# How long a process waits for the first one to need it: it may prepare much data before.
JOIN_TIMEOUT = timedelta(days=30)


# How long the first process waits for one that it has told to stop, in seconds.
SHUTDOWN_TIMEOUT = 10.0


class ProcessLauncher:
    """How many processes a run has, and who starts them.

    Args:
        strategy: ``auto`` is one process; ``ddp`` and ``ddp_spawn`` are Lightning's
            ``DistributedDataParallel`` over several, started here for a run and ended with it, or
            found, where torchrun or srun has started them. ``fsdp`` cuts parameters, gradients and
            the optimizer's state into pieces, one for each GPU, for models that one does not hold.
        devices: processes on each machine; ``auto``: one for each GPU, or those that were found.
        num_nodes: machines; more than one need torchrun or srun.
        accelerator: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        UserError: for what cannot be, or would be ignored.
    """

    def __init__(
        self,
        strategy: str = "auto",
        devices: int | Literal["auto"] = 1,
        num_nodes: int = 1,
        accelerator: str = "cpu",
    ):
        if strategy not in STRATEGIES:
            raise UserError(f"trainer.strategy={strategy}: choose one of {', '.join(STRATEGIES)}")
        for key, value in (("devices", devices), ("num_nodes", num_nodes)):
            if value != "auto" and value < 1:
                raise UserError(f"trainer.{key}={value}: it must be 1 or more")
        outside = external_launcher()
        if outside is not None:
            _check_external_launcher(outside, strategy, devices, num_nodes)
            devices = outside.local_count
        else:
            devices = _resolve_devices(strategy, devices, num_nodes, accelerator)
        self.strategy, self.devices, self.num_nodes = strategy, devices, num_nodes
        self.count, self.accelerator = devices * num_nodes, accelerator

    @property
    def shards(self) -> bool:
        """Whether a model is cut into pieces while it is trained."""
        return self.strategy == "fsdp" and self.count > 1

    def trainer_settings(self, whole: bool, student: nn.Module) -> dict[str, Any]:
        """What Lightning's Trainer has to know in each process.

        Args:
            whole: whether every step trains every parameter.
            student: what is trained.
        """
        # Given, or Lightning would take a job of one task on a cluster for a part of several.
        settings = {"devices": self.devices, "plugins": [_WorkerEnvironment()]}
        if self.count == 1:
            return settings
        if self.shards:
            strategy = self.sharding({type(layer) for layer in layer_stack(student).layers})
        else:
            strategy = "ddp" if whole else "ddp_find_unused_parameters_true"
        return settings | {
            "num_nodes": self.num_nodes,
            "strategy": strategy,
            "use_distributed_sampler": False,  # the batches are shared out already
        }

    @staticmethod
    def sharding(units: set[type[nn.Module]]) -> FSDPStrategy:
        """FSDP over modules of these classes; checkpoints are whole, as with one process."""
        return FSDPStrategy(auto_wrap_policy=units, state_dict_type="full")

    def run_on_all_ranks(self, function: Callable, *arguments: Any) -> Any:
        """Call a function in every process, on copies in all but this one; this one's result."""
        if self.count == 1:
            return function(*arguments)
        global _worker_group
        if _worker_group is None:
            _worker_group = (
                WorkerGroup.outside() if external_launcher() else WorkerGroup.started(self.count)
            )
        try:
            return _worker_group.call(self.accelerator, function, arguments)
        except BaseException:
            # The others are somewhere in the middle of it and cannot be told anything.
            _worker_group.abandon()
            raise


def _resolve_devices(strategy: str, devices: int | str, num_nodes: int, accelerator: str) -> int:
    """How many devices a run has whose processes are started here."""
    if num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: start the command on every node, with torchrun or srun"
        )
    gpus = torch.cuda.device_count() if accelerator == "cuda" else None
    if strategy == "fsdp" and gpus is None:
        raise UserError("trainer.strategy=fsdp needs GPUs: use trainer.strategy=ddp on a CPU")
    if devices == "auto":
        devices = gpus or 1
    if devices > 1 and strategy == "auto":
        raise UserError(
            f"trainer.devices={devices} needs a strategy: trainer.strategy=ddp, "
            "or trainer.strategy=ddp_spawn under -m"
        )
    if devices > 1 and accelerator == "mps":
        raise UserError(f"trainer.devices={devices}: there is one device with accelerator=mps")
    if gpus is not None and devices > gpus:
        raise UserError(f"trainer.devices={devices}: torch sees {gpus} here")
    return devices


def _check_external_launcher(
    outside: ProcessRank, strategy: str, devices: int | str, num_nodes: int
) -> None:
    found = f"{outside.count} processes were started from outside"
    if strategy == "auto" or "spawn" in strategy:
        raise UserError(f"trainer.strategy={strategy}: {found}, use trainer.strategy=ddp")
    if num_nodes * outside.local_count != outside.count:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: {found}, {outside.local_count} of them on this "
            f"machine, so there are {outside.count // outside.local_count} nodes"
        )
    if devices not in ("auto", outside.local_count):
        raise UserError(
            f"trainer.devices={devices}: {found}, {outside.local_count} of them on this machine"
        )


class _WorkerEnvironment(LightningEnvironment):
    """Tells Lightning that the processes are there and which one this is."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return _worker_group.place.local_rank if _rank_and_world_size[1] > 1 else 0

    def node_rank(self) -> int:
        return (
            _worker_group.place.rank // _worker_group.place.local_count
            if _rank_and_world_size[1] > 1
            else 0
        )

    def teardown(self) -> None:
        """Leaves torchrun's variables as they are: another training may follow."""


class _ModelPickling:
    """Pickle, but for models of transformers: they record outputs by hooks that it cannot take."""

    class Pickler(pickle.Pickler):
        """Sends a model as what it is made of."""

        def reducer_override(self, value: Any) -> Any:
            """How an object is sent."""
            if not isinstance(value, PreTrainedModel):
                return NotImplemented
            frozen = [name for name, one in value.named_parameters() if not one.requires_grad]
            return _rebuild_model, (
                type(value), value.config, value.state_dict(), value.training, frozen,
            )  # fmt: skip


def _rebuild_model(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    state: dict[str, torch.Tensor],
    training: bool,
    frozen: list[str],
) -> PreTrainedModel:
    model = kind(config)
    model.load_state_dict(state)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return model.train(training)


class WorkerGroup:
    """The processes of a run as one of them sees them.

    Args:
        store: where the first process says what is to be done.
        place: this process's among them.
        processes: that the first one has started itself.
    """

    def __init__(
        self,
        store: distributed.Store,
        place: ProcessRank,
        processes: tuple[subprocess.Popen, ...] = (),
    ):
        self.store, self.place, self.processes = store, place, processes
        self.calls, self.ended = 0, False
        if processes:
            threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def started(cls, count: int) -> "WorkerGroup":
        """Start the others on this machine."""
        # Port 0: the system chooses a free one, and nobody can take it in between.
        store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        code = "from distill.distributed.workers import worker_main; worker_main()"
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100
        return cls(
            store,
            ProcessRank(0, count, 0, count),
            tuple(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    env=os.environ
                    | {WORKER_VARIABLE: f"{rank} {count} {store.port}", "PYTHONPATH": path},
                )
                for rank in range(1, count)
            ),
        )

    @classmethod
    def joined(cls) -> "WorkerGroup":
        """Join the process that has started this one."""
        rank, count, port = map(int, os.environ[WORKER_VARIABLE].split())
        store = distributed.TCPStore("127.0.0.1", port, is_master=False)
        return cls(store, ProcessRank(rank, count, rank, count))

    @classmethod
    def outside(cls) -> "WorkerGroup":
        """Join the others that torchrun or srun has started."""
        place = external_launcher()
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
            os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
            # Of this step: two may run side by side.
            number = int(os.environ["SLURM_JOB_ID"]) * 31 + int(os.environ["SLURM_STEP_ID"])
            os.environ.setdefault("MASTER_PORT", str(15000 + number % 15000))
        store, _, _ = next(
            distributed.rendezvous("env://", place.rank, place.count, timeout=JOIN_TIMEOUT)
        )
        return cls(store, place)

    def call(self, accelerator: str, function: Callable, arguments: tuple) -> Any:
        """Have all processes call a function; the result of this one."""
        if self.ended:
            raise UserError("the other processes have ended with a run that failed before")
        self._say(accelerator)
        self._connect(accelerator)
        content = io.BytesIO()
        torch.save((function, arguments), content, pickle_module=_ModelPickling)
        distributed.broadcast_object_list([content.getvalue()])
        with self._sharing():
            return function(*arguments)

    def serve(self) -> None:
        """Do what the first process says until it says that it is done."""
        while True:
            key = f"call {self.calls}"
            self.store.wait([key], JOIN_TIMEOUT)
            said = self.store.get(key).decode()
            if said == "stop":
                return
            self.calls += 1
            self._connect(said)
            content = [None]
            distributed.broadcast_object_list(content)
            function, arguments = torch.load(
                io.BytesIO(content[0]), map_location="cpu", weights_only=False
            )
            with self._sharing():
                function(*arguments)
            del function, arguments

    def shutdown(self) -> None:
        """Tell the others to stop."""
        if not self.ended:
            self.ended = True
            with suppress(RuntimeError):  # those from outside may be gone, and the store with them
                self._say("stop")
            for process in self.processes:
                try:
                    process.wait(SHUTDOWN_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
            self._disconnect()

    def abandon(self) -> None:
        """End the others where they are."""
        self.ended = True
        for process in self.processes:
            process.kill()
            process.wait()
        self._disconnect()

    def _say(self, what: str) -> None:
        self.store.set(f"call {self.calls}", what)
        self.calls += 1

    def _connect(self, accelerator: str) -> None:
        if distributed.is_initialized():
            return
        if accelerator == "cuda":
            torch.cuda.set_device(self.place.local_rank)
        rank_zero_only.rank = self.place.rank
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo",
            store=distributed.PrefixStore("distill", self.store),
            rank=self.place.rank,
            world_size=self.place.count,
        )

    def _disconnect(self) -> None:
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        global _rank_and_world_size
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // self.place.local_count))
        _rank_and_world_size = (self.place.rank, self.place.count)
        try:
            yield
        finally:
            _rank_and_world_size = (0, 1)
            torch.set_num_threads(threads)

    def _watch(self) -> None:
        """End this process if another one has: over NCCL it would wait for it for long."""
        while all(process.poll() is None for process in self.processes):
            time.sleep(0.2)
            if self.ended:
                return
        time.sleep(SHUTDOWN_TIMEOUT)  # over gloo it is told and ends by itself, with a traceback
        if not self.ended:
            print("error: a process of this run has ended", file=sys.stderr, flush=True)
            os._exit(1)


_worker_group: WorkerGroup | None = None


def shutdown_workers() -> None:
    """Tell the processes that were started for a run that it is over."""
    global _worker_group
    if _worker_group is not None and _worker_group.processes:
        _worker_group.shutdown()
        _worker_group = None


def shutdown_external_workers() -> None:
    """Tell the processes that were started from outside that the command is over."""
    global _worker_group
    (_worker_group or WorkerGroup.outside()).shutdown()
    _worker_group = None


def worker_main() -> None:
    """All that a process does that is not the first: help, until it is told to stop."""
    global _worker_group
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one decides what Ctrl-C means
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    if WORKER_VARIABLE in os.environ:
        threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
        _worker_group = WorkerGroup.joined()
    else:
        _worker_group = WorkerGroup.outside()
    try:
        _worker_group.serve()
    except BaseException:
        time.sleep(1)  # where the first one has failed it ends this one now
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # nothing to tidy up, and nobody to do it with


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
