"""Permissions of files that a library has created for its owner alone."""

import os
from pathlib import Path


def apply_umask(folder: Path) -> None:
    """Give every file below a folder the permissions of a file that is newly created.

    safetensors writes its files readable by the owner alone (mode 0600), whatever the umask.

    Args:
        folder: the folder; links in it are not followed.
    """
    mode = 0o666 & ~_umask()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            executable = 0o111 & path.stat().st_mode
            path.chmod(mode | executable)


def _umask() -> int:
    """Return the umask of this process, which the system tells only to those who set it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
