"""Rank of this process, as torchrun or srun gives it in the environment.

Light imports only: every command calls this before anything else.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessRank:
    """This process among those that run a function together.

    Attributes:
        rank: from 0; rank 0 runs the main flow.
        world_size: number of processes.
        local_rank: from 0, on this machine.
        local_world_size: number of processes on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


SINGLE_PROCESS = ProcessRank()


def external_process_rank() -> ProcessRank | None:
    """Return the rank that torchrun or srun has given to this process.

    ``None`` if neither has started it, or if it is the only one, as in a cluster job of one task.
    """
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        process = ProcessRank(*(int(variables[name]) for name in names))
    elif "SLURM_STEP_NUM_TASKS" in variables:  # set by srun, not by sbatch
        world_size = int(variables["SLURM_STEP_NUM_TASKS"])
        nodes = int(variables.get("SLURM_STEP_NUM_NODES", 1))
        rank, local_rank = int(variables["SLURM_PROCID"]), int(variables["SLURM_LOCALID"])
        process = ProcessRank(rank, world_size, local_rank, world_size // nodes)
    else:
        return None
    return process if process.world_size > 1 else None
