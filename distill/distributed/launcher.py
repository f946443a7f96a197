"""How many processes a run has, who starts them, and a function called in all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn

from distill.core.errors import UserError
from distill.distributed.cluster_environment import WorkerEnvironment
from distill.distributed.environment import SINGLE_PROCESS, ProcessRank, external_process_rank
from distill.distributed.worker_group import WorkerGroup
from distill.modeling.families import layer_stack

STRATEGIES = ("auto", "ddp", "ddp_spawn", "fsdp")

P = ParamSpec("P")
R = TypeVar("R")


class ProcessLauncher:
    """Number of processes of a run, and who starts them.

    Args:
        strategy: ``auto`` is one process; ``ddp`` (or its alias ``ddp_spawn``) is Lightning's
            ``DistributedDataParallel`` over several, which are started here for a run and ended
            with it, unless torchrun or srun has started them. ``fsdp`` shards parameters, gradients
            and the optimizer's state over the GPUs, for models that do not fit into one.
        devices: processes on each machine; ``auto``: one for each GPU, or as many as torchrun or
            srun has started.
        num_nodes: machines; more than one need torchrun or srun.
        accelerator: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        UserError: for settings that cannot work or would be ignored.
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
        self.strategy = "ddp" if strategy == "ddp_spawn" else strategy
        external = external_process_rank()
        if external is not None:
            _check_external_processes(external, self.strategy, devices, num_nodes)
            self.devices = external.local_world_size
        else:
            self.devices = _resolve_devices(self.strategy, devices, num_nodes, accelerator)
        self.num_nodes, self.world_size = num_nodes, self.devices * num_nodes
        self.accelerator = accelerator
        self._workers: WorkerGroup | None = None
        self._may_start = False

    @property
    def shards(self) -> bool:
        """Whether a model is sharded over the processes while it is trained."""
        return self.strategy == "fsdp" and self.world_size > 1

    def trainer_settings(
        self, process: ProcessRank, trains_every_parameter: bool, student: nn.Module
    ) -> dict[str, Any]:
        """Return the arguments for Lightning's Trainer in one process.

        Args:
            process: that process.
            trains_every_parameter: whether every step trains every parameter.
            student: the model that is trained.
        """
        # Given, or Lightning would take a cluster job of one task for a part of several.
        settings: dict[str, Any] = {
            "devices": self.devices,
            "plugins": [WorkerEnvironment(process)],
        }
        if self.world_size == 1:
            return settings
        strategy: str | FSDPStrategy
        if self.shards:
            strategy = self.sharding({type(layer) for layer in layer_stack(student).layers})
        else:
            strategy = "ddp" if trains_every_parameter else "ddp_find_unused_parameters_true"
        return settings | {
            "num_nodes": self.num_nodes,
            "strategy": strategy,
            "use_distributed_sampler": False,  # the batch sampler knows the ranks
        }

    @staticmethod
    def sharding(units: set[type[nn.Module]]) -> FSDPStrategy:
        """Return FSDP over modules of these classes; checkpoints are as with one process."""
        return FSDPStrategy(auto_wrap_policy=units, state_dict_type="full")

    @contextmanager
    def worker_group(self, external: WorkerGroup | None = None) -> Iterator[None]:
        """Allow :meth:`run_on_all_ranks` over several processes inside a ``with`` block.

        The other processes are started when they are first needed, and ended with the block.

        Args:
            external: processes that torchrun or srun has started; they are used, and left running.
        """
        self._workers, self._may_start = external, True
        try:
            yield
        finally:
            workers, self._workers, self._may_start = self._workers, None, False
            if workers is not None and workers is not external:
                workers.shutdown()

    def run_on_all_ranks(
        self,
        function: Callable[Concatenate[ProcessRank, P], R],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> R:
        """Call a function in every process and return this process's result.

        The other processes get copies of the arguments.

        Args:
            function: takes the :class:`ProcessRank` of the process it runs in, then the arguments.
            arguments: for the function.
            named: for the function.
        """
        if self.world_size == 1:
            return function(SINGLE_PROCESS, *arguments, **named)
        assert self._may_start, "several processes are used inside of worker_group() only"
        if self._workers is None:
            external = external_process_rank()
            self._workers = (
                WorkerGroup.start(self.world_size)
                if external is None
                else WorkerGroup.join_external(external)
            )
        try:
            return self._workers.call(self.accelerator, function, arguments, named)
        except BaseException:
            # The other processes are somewhere inside the function and cannot be told to leave it.
            self._workers.abandon()
            raise

    def __getstate__(self) -> dict[str, Any]:
        # The other processes belong to the one that started them: a copy has none.
        return self.__dict__ | {"_workers": None, "_may_start": False}


def _resolve_devices(
    strategy: str, devices: int | Literal["auto"], num_nodes: int, accelerator: str
) -> int:
    """Return the number of devices of a run whose processes are started here."""
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
        raise UserError(f"trainer.devices={devices} needs a strategy: trainer.strategy=ddp")
    if devices > 1 and accelerator == "mps":
        raise UserError(f"trainer.devices={devices}: there is one device with accelerator=mps")
    if gpus is not None and devices > gpus:
        raise UserError(f"trainer.devices={devices}: torch sees {gpus} here")
    return devices


def _check_external_processes(
    process: ProcessRank, strategy: str, devices: int | Literal["auto"], num_nodes: int
) -> None:
    local = process.local_world_size
    found = f"{process.world_size} processes were started from outside"
    if strategy == "auto":
        raise UserError(f"trainer.strategy={strategy}: {found}, use trainer.strategy=ddp")
    if num_nodes * local != process.world_size:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: {found}, {local} of them on this machine, "
            f"so there are {process.world_size // local} nodes"
        )
    if devices not in ("auto", local):
        raise UserError(f"trainer.devices={devices}: {found}, {local} of them on this machine")
