"""Upload a model with its card and every exported form to the Hugging Face hub."""

import os
import re
from pathlib import Path

from distill.core.checksums import DamagedError, check_folder
from distill.core.errors import UserError
from distill.predict.exported import exported_forms

CARD = "README.md"
# What stands beside a model for this program's own use.
LEFT_OUT = ("checksums.json", "training.json", "events.out.tfevents.*", ".*")
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check_push(folder: Path, repository: str) -> None:
    """Refuse what cannot be uploaded, before anything is exported.

    Args:
        folder: of the model.
        repository: ``USER/NAME`` on the hub.

    Raises:
        UserError: if it has no card, its files are not those that were written or checked, the
            name is none, or the hub is switched off.
    """
    if not _ID.fullmatch(repository):
        raise UserError(f"--push {repository}: the hub's names are USER/NAME")
    if not (folder / CARD).is_file():
        raise UserError(f"--push: {folder} has no model card ({CARD}), which a finished run writes")
    try:
        check_folder(folder)
    except DamagedError as damage:
        raise UserError(f"--push: {folder} is damaged ({damage}): nothing is uploaded") from damage
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise UserError("--push: the hub is switched off (HF_HUB_OFFLINE is set)")


def push(folder: Path, repository: str, *, private: bool = True) -> str:
    """Upload a model's folder to the hub, and return its address.

    Args:
        folder: of the model, with its card and exported forms.
        repository: ``USER/NAME``; made if it is not there.
        private: whether a new one is private.

    Raises:
        UserError: see :func:`check_push`; if an exported file is not the one that was checked, or
            the hub is not reached or refuses it.
    """
    check_push(folder, repository)
    for form in exported_forms(folder).values():
        form.verify()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, ignore_patterns=list(LEFT_OUT),
            commit_message="Upload model, card and exported forms",
        )  # fmt: skip
    except HfHubHTTPError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--push {repository}: the hub refuses it ({reason}): sign in with `hf auth login`"
        ) from error
    except Exception as error:
        if not _is_unreachable(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--push {repository}: the hub is not reached: {reason}") from error
    return str(address)


def _is_unreachable(error: Exception) -> bool:
    """Return whether an error is one of the network, in the client that the hub's library uses."""
    import httpx

    return isinstance(error, httpx.TransportError | OSError)
