"""Checkpoints of a training: written beside their place, proven by checksums, found again.

Lightning writes a checkpoint into ``$TMPDIR`` and moves it. On another file system that is a copy
onto the last good one, which a kill or a full disk destroys. Here it is written in the same folder
and renamed when it is on the disk, and the checkpoint before it is kept for as long as the training
runs.
"""

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.types import _PATH
from pytorch_lightning.plugins.io import TorchCheckpointIO

from distill.core import checksums
from distill.core.cache import remove
from distill.core.checksums import CHECKSUMS, DamagedError
from distill.core.errors import RunError

log = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
# The names that share their checksums: the last one becomes the previous one by a renaming, before
# or after which the process may be killed.
_WRITTEN_AS = {LAST: LAST, PREVIOUS: LAST, BEST: BEST}


class CheckpointFiles(TorchCheckpointIO):
    """Writes and reads Lightning's checkpoints.

    Args:
        folder: of the training, whose ``last.ckpt`` and ``best.ckpt`` get checksums. Others, of a
            user's callback, are written beside their place, too.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; a reader finds the old one or the new one, never a part."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with checksums.written_beside(file) as partial:
            torch.save(checkpoint, partial)
            if file.parent == self.folder and file.name in (LAST, BEST):
                _note_digest(partial, file)
                for place in (file, self.folder / PREVIOUS):
                    if place.is_dir():  # it was passed over
                        remove(place)
                if file.name == LAST and file.is_file():
                    file.replace(self.folder / PREVIOUS)

    def load_checkpoint(
        self, path: _PATH, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; never anything but tensors and plain values."""
        return super().load_checkpoint(path, map_location, weights_only=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that a training continues from.

    Attributes:
        file: the file.
        step: number of steps that were taken before.
    """

    file: Path
    step: int


def find_checkpoint(folder: Path, description: str, keeps_best: bool) -> Checkpoint | None:
    """Return the last whole checkpoint of a training; ``None`` if it has to start anew.

    A damaged one is passed over for the one before, and a training that has lost its best weights
    starts again: it comes to the same ones.

    Args:
        folder: of the checkpoints.
        description: of what is trained, for the log.
        keeps_best: whether the training needs ``best.ckpt``.
    """
    for name in (LAST, PREVIOUS):
        file = folder / name
        if not is_whole(file):
            if file.exists():
                log.warning("%s: %s is damaged, it is passed over", description, file)
            continue
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            step, callbacks = int(state["global_step"]), state.get("callbacks", {})
        except Exception as error:  # of an earlier version, which wrote no checksums
            log.warning(
                "%s: %s cannot be read (%s), it is passed over", description, file,
                " ".join(str(error).split())[:100],
            )  # fmt: skip
            continue
        needs_best = keeps_best and any(
            isinstance(one, dict) and Path(one.get("best_model_path") or "").name == BEST
            for one in callbacks.values()
        )
        if needs_best and not is_whole(folder / BEST):
            log.warning("%s: %s is damaged or missing", description, folder / BEST)
            break
        if file.name == PREVIOUS:
            log.warning("%s: continues from the checkpoint before, %s", description, file)
        return Checkpoint(file, step)
    if any((folder / name).exists() for name in _WRITTEN_AS):
        log.warning("%s: no checkpoint can be used, the training starts again", description)
        for name in (*_WRITTEN_AS, CHECKSUMS):
            remove(folder / name)
    return None


def is_whole(file: Path) -> bool:
    """Return whether a checkpoint is as it was written.

    One of an earlier version has no checksum but those of the archive that it is.
    """
    digests = _digests(file.parent)
    try:
        if digests is not None:
            name = _WRITTEN_AS.get(file.name, file.name)
            return checksums.file_checksum(file).sha256 in digests.get(name, [])
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (DamagedError, OSError, zipfile.BadZipFile, NotImplementedError):
        return False


def save(content: dict[str, Any], file: Path) -> None:
    """Write tensors and plain values into a file with a checksum."""
    with checksums.written_beside(file) as partial:
        torch.save(content, partial)
        _note_digest(partial, file)


def load_weights(file: Path, description: str) -> dict[str, Any]:
    """Return the weights in a checkpoint that was just written.

    Raises:
        RunError: if it is not what was written.
    """
    if not is_whole(file):
        raise RunError(f"{description}: {file} is damaged: the same command trains it again")
    weights: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    return weights


def drop_checkpoints(folder: Path, *names: str) -> None:
    """Remove checkpoints that are no longer needed."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _digests(folder: Path) -> dict[str, list[str]] | None:
    """Return the digests of the checkpoints by name, the newest first; ``None`` without any."""
    try:
        content = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return {str(name): [str(one) for one in digests] for name, digests in content.items()}
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # damaged: nothing is proven


def _note_digest(partial: Path, file: Path) -> None:
    """Add the digest of what is about to be renamed; of each name the last two are kept.

    Before the renaming, so that whichever file is found after a kill has its digest here.
    """
    checksums.synchronize(partial)
    digest = checksums.file_checksum(partial).sha256
    digests = _digests(file.parent) or {}
    digests[file.name] = [digest, *digests.get(file.name, [])][:2]
    with checksums.written_beside(file.parent / CHECKSUMS) as beside:
        beside.write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
