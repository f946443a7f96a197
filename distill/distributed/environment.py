"""What torchrun or srun says of this process, if one of them has started it.

Only light imports here: every command asks before it does anything else.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessRank:
    """This process among those that were started together from outside.

    Attributes:
        rank: from 0; 0 runs the main flow.
        count: how many there are.
        local_rank: from 0 on this machine.
        local_count: how many there are on this machine.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int


def external_launcher() -> ProcessRank | None:
    """This process's place; ``None`` where it is alone, as a job of one task on a cluster is."""
    given = os.environ
    if "TORCHELASTIC_RUN_ID" in given:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        found = ProcessRank(*(int(given[name]) for name in names))
    elif "SLURM_STEP_NUM_TASKS" in given:  # set by srun, not by sbatch
        count = int(given["SLURM_STEP_NUM_TASKS"])
        nodes = int(given.get("SLURM_STEP_NUM_NODES", 1))
        rank, local_rank = int(given["SLURM_PROCID"]), int(given["SLURM_LOCALID"])
        found = ProcessRank(rank, count, local_rank, count // nodes)
    else:
        return None
    return found if found.count > 1 else None
