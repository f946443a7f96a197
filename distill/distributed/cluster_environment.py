"""The processes of a run as Lightning's Trainer is told of them."""

from pytorch_lightning.plugins.environments import LightningEnvironment

from distill.distributed.environment import ProcessRank


class WorkerEnvironment(LightningEnvironment):
    """Tells Lightning that all processes are running and which one this is.

    Args:
        process: this process among those that train.
    """

    def __init__(self, process: ProcessRank):
        super().__init__()
        self.process = process

    @property
    def creates_processes_externally(self) -> bool:
        """Whether Lightning has to start no process: always."""
        return True

    def local_rank(self) -> int:
        """Return this process's rank on this machine."""
        return self.process.local_rank

    def node_rank(self) -> int:
        """Return this machine's rank."""
        return self.process.rank // self.process.local_world_size

    def teardown(self) -> None:
        """Keep torchrun's variables: another training may follow."""
