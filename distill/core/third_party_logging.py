"""Log levels of the libraries that the program uses."""

import logging
import os
import warnings


def silence_third_party_logging() -> None:
    """Silence progress bars, tips and warnings of libraries that do not concern a user."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # The program itself reports which weights are new (a head to be trained).
    transformers_logging.set_verbosity_error()
    # Not retries either: a failure is reported as an error of the program.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for name in ("pytorch_lightning", "datasets", "httpx", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The scheduler is meant to step after every batch, and Lightning's order is correct.
    warnings.filterwarnings("ignore", ".*lr_scheduler.step.*before.*optimizer.step.*")
