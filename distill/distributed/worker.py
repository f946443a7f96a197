"""What every process but the first does: call what the first one calls, until it says stop."""

import os
import signal
import sys
import threading
import time
import traceback

from distill.core.third_party_logging import silence_third_party_logging
from distill.distributed.environment import external_process_rank
from distill.distributed.worker_group import WORKER_VARIABLE, WorkerGroup

# How long the first process has to end this one where it has failed itself, in seconds: the errors
# that this causes here say nothing.
FAILURE_GRACE = 5.0

PARENT_CHECK_INTERVAL = 0.5


def worker_main() -> None:
    """Run a process that is not the first, started by it or by torchrun or srun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one decides what Ctrl-C means
    silence_third_party_logging()
    if WORKER_VARIABLE in os.environ:
        parent = int(os.environ[WORKER_VARIABLE].split()[-1])
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
        workers = WorkerGroup.join_parent()
    else:
        process = external_process_rank()
        assert process is not None, "only torchrun and srun start a worker without the variable"
        workers = WorkerGroup.join_external(process)
    try:
        workers.serve()
    except BaseException:
        time.sleep(FAILURE_GRACE)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # nothing to clean up, and no other process to do it with


def _exit_with_parent(parent: int) -> None:
    """End this process once the one that started it has ended, whatever it waits for."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_INTERVAL)
    os._exit(1)


if __name__ == "__main__":
    worker_main()
