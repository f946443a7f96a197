"""Environment of a process that torchrun or srun has started: rank 3 of 4, 2 on a machine."""

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}  # fmt: skip
