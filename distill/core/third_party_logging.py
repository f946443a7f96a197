"""Keep libraries from talking over the program's own lines."""

import logging
import os
import warnings


def silence_third_party_logging() -> None:
    """Silence what says nothing to a user: progress of loading, tips, missing heads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # Which weights are new is said by the program itself (a head to be trained).
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # its retries; what comes of them is an error of ours
    for name in ("pytorch_lightning", "datasets", "httpx", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A scheduler stepped after every batch is what is meant; Lightning's own order is right.
    warnings.filterwarnings("ignore", ".*lr_scheduler.step.*before.*optimizer.step.*")
