"""Kept folders prove what they hold: whatever is done to a file is found before it is used."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from distill.core.cache import get_or_create
from distill.core.checksums import (
    CHECKSUMS,
    DamagedError,
    check_folder,
    read_checksums,
    write_checksums,
    written_beside,
)

CONTENT = bytes(range(256)) * 40


def flip(file: Path, place: float = 0.5) -> None:
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    file.write_bytes(content)


def swap(folder: Path) -> None:
    first, second = folder / "weights", folder / "deep" / "rows"
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


FAULTS = {
    "one flipped bit": lambda folder: flip(folder / "weights"),
    "the first bit": lambda folder: flip(folder / "deep" / "rows", 0),
    "the last bit": lambda folder: flip(folder / "deep" / "rows", 1),
    "cut short": lambda folder: os.truncate(folder / "weights", 1000),
    "empty": lambda folder: os.truncate(folder / "weights", 0),
    "longer": lambda folder: (folder / "weights").write_bytes(CONTENT + b"\0"),
    "foreign": lambda folder: (folder / "weights").write_bytes(b"<html>"),
    "swapped": swap,
    "missing": lambda folder: (folder / "weights").unlink(),
    "a folder in its place": lambda folder: as_folder(folder / "weights"),
    "a pipe in its place": lambda folder: as_pipe(folder / "weights"),
    "another file": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "checksums with a flipped bit": lambda folder: flip(folder / CHECKSUMS, 0.9),
    "no checksum of a file": lambda folder: write_checksums(folder, "made", ["weights"]),
    "empty checksums": lambda folder: os.truncate(folder / CHECKSUMS, 0),
    "foreign checksums": lambda folder: (folder / CHECKSUMS).write_bytes(b"\xff\0[[[["),
    "a folder of checksums": lambda folder: as_folder(folder / CHECKSUMS),
    "another folder's": lambda folder: write_checksums(folder, "another"),
    "nothing in it": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "a file in place of it all": lambda folder: [shutil.rmtree(folder), folder.write_text("")],
    "a link to nothing": lambda folder: [shutil.rmtree(folder), folder.symlink_to("nowhere")],
}


def create(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "weights").write_bytes(CONTENT)
    (folder / "deep" / "rows").write_bytes(CONTENT[::-1])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_damaged_folder_is_made_anew_and_said(tmp_path, caplog, fault):
    caplog.set_level("INFO")
    folder = tmp_path / "made"
    assert not get_or_create(folder, create)
    assert get_or_create(folder, create)
    caplog.clear()
    fault(folder)
    assert not get_or_create(folder, create)
    assert (folder / "weights").read_bytes() == CONTENT
    assert "made anew" in caplog.text
    caplog.clear()
    assert get_or_create(folder, create)
    assert not caplog.text


def test_of_a_damaged_folder_the_last_one_is_set_aside(tmp_path):
    folder = tmp_path / "made"
    get_or_create(folder, create)
    for content in (b"first", b"second"):
        (folder / "weights").write_bytes(content)
        get_or_create(folder, create)
    assert (tmp_path / "made.damaged" / "weights").read_bytes() == b"second"


def test_what_was_kept_without_checksums_is_made_anew_or_adopted(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").write_text("")
    assert not get_or_create(folder, create)
    assert not (folder / "old").exists()
    (folder / CHECKSUMS).unlink()
    assert not get_or_create(folder, create, adopt=lambda path: not path)
    (folder / CHECKSUMS).unlink()
    caplog.clear()
    assert get_or_create(folder, create, adopt=lambda path: path == folder)
    assert "used as it is" in caplog.text
    assert check_folder(folder, "made", strict=True)


def test_hidden_files_and_times_do_no_harm(tmp_path):
    folder = tmp_path / "made"
    get_or_create(folder, create)
    (folder / ".nfs0001").write_text("")
    os.utime(folder / "weights", (1, 1))
    shutil.copytree(folder, tmp_path / "copied")
    assert get_or_create(folder, create)
    assert check_folder(tmp_path / "copied", strict=True)
    with pytest.raises(DamagedError, match="written for made"):
        check_folder(tmp_path / "copied", "copied")


def test_checksums_are_those_of_sha256sum(tmp_path):
    create(tmp_path)
    write_checksums(tmp_path)
    found = read_checksums(tmp_path)
    assert found["weights"].sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found["deep/rows"].bytes == len(CONTENT)


def test_checksums_lead_to_no_files_elsewhere(tmp_path):
    create(tmp_path)
    write_checksums(tmp_path)
    file = tmp_path / CHECKSUMS
    file.write_text(file.read_text().replace("deep/rows", "deep/../../rows"))
    with pytest.raises(DamagedError, match="elsewhere"):
        check_folder(tmp_path)


def test_a_file_that_may_not_be_read_is_no_damaged_one(tmp_path, monkeypatch):
    create(tmp_path)
    write_checksums(tmp_path)
    opened = Path.open

    def refuse(path, *arguments, **settings):
        if path.name == "weights":
            raise PermissionError(13, "no")
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        check_folder(tmp_path)


def test_a_failed_writing_leaves_the_file_that_was_there(tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(OSError, match="full"), written_beside(file) as partial:
        partial.write_text("aft")
        raise OSError("full")
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
