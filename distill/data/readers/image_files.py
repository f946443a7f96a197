"""Images in files: folders of classes, tables of file and label, arrays (idx, npz)."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from distill.core.errors import UserError
from distill.data.images import CELL, array_cell
from distill.data.sources.base import SPLIT_NAMES

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
)  # fmt: skip
FEATURES = Features({"image": CELL, "label": Value("string")})
Row = dict[str, Any]

# Names of splits in files of arrays beside the usual ones: MNIST calls its test files t10k.
_ARRAY_SPLITS = SPLIT_NAMES | {"t10k": "test"}
_IMAGE_NAMES = ("x", "image", "images", "data")
_LABEL_NAMES = ("y", "label", "labels", "target", "targets")
# Codes of unsigned bytes in the head of an idx file, and of the types that labels may have.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4"}


def class_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of classes in a folder by name; those without images are left out."""
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and any(_images(path))
    }


def rows_of_folder(folder: Path) -> Iterator[Row]:
    """Yield the images of a folder of classes, each labeled with the name of its folder."""
    for label, path in class_folders(folder).items():
        for file in _images(path):
            yield {
                "image": {"bytes": _read(file), "path": f"{label}/{file.relative_to(path)}"},
                "label": label,
            }


def rows_of_images(folder: Path) -> Iterator[Row]:
    """Yield the images in a folder and all folders below it, without labels."""
    for file in _images(folder):
        name = str(file.relative_to(folder))
        yield {"image": {"bytes": _read(file), "path": name}, "label": None}


def image_state(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every image in a folder and all below it."""
    return [
        (str(file.relative_to(folder)), (stat := file.stat()).st_size, stat.st_mtime_ns)
        for file in _images(folder)
    ]


def folder_state(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every image in a folder of classes."""
    return [
        (f"{label}/{name}", size, time)
        for label, path in class_folders(folder).items()
        for name, size, time in image_state(path)
    ]


def rows_of_table(table: Iterable[Mapping[str, Any]], folder: Path, file: str) -> Iterator[Row]:
    """Yield the images that a table names.

    Args:
        table: rows with a column ``file`` of paths, relative to the folder.
        folder: where the paths begin.
        file: name of the table, for messages.
    """
    for number, row in enumerate(table, 1):
        path = folder / str(row["file"])
        if not path.is_file():
            raise UserError(f"{file} row {number}: there is no image {row['file']}")
        yield {
            "image": {"bytes": _read(path), "path": str(row["file"])},
            "label": None if row["label"] is None else str(row["label"]),
        }


def rows_of_arrays(images: np.ndarray, labels: np.ndarray, file: str) -> Iterator[Row]:
    """Yield the images of an array ``(N, H, W)`` or ``(N, H, W, C)`` of bytes, and their labels."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield {"image": array_cell(image, f"{file}[{number}]"), "label": str(label)}


def as_images(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array of images as bytes, greys without an axis of channels.

    Raises:
        UserError: for another type or number of axes or channels.
    """
    if array.dtype != np.uint8:
        raise UserError(
            f"{name} holds {array.dtype}, not bytes (uint8) from 0 to 255: multiply, round and "
            "convert it"
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        return array
    if array.ndim != 4 or array.shape[3] != 3:
        raise UserError(
            f"{name} has the shape {array.shape}: images are (N, H, W), (N, H, W, 1) or "
            "(N, H, W, 3) with the channels last"
        )
    return array


def as_labels(array: np.ndarray, images: np.ndarray, name: str) -> np.ndarray:
    """Return labels ``(N,)``, one for each image.

    Raises:
        UserError: if they are not as many, or no whole numbers or names.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iuSU":
        raise UserError(
            f"{name} has the shape {array.shape} and holds {array.dtype}: labels are whole numbers "
            "or names, one for each image"
        )
    if len(array) != len(images):
        raise UserError(f"{name}: there are {len(images)} images and {len(array)} labels")
    return array.astype(str) if array.dtype.kind == "S" else array


def read_idx(file: Path) -> np.ndarray:
    """Return the array in an idx file, compressed with gzip or not (LeCun, Cortes and Burges).

    Raises:
        UserError: if it is no such file, or is cut off.
    """
    content = _read(file)
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"cannot read {file.name}: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise UserError(f"{file.name} is no idx file: it does not begin with the type of an array")
    dimensions, start = content[3], 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(np.int64)
    kind = np.dtype(_IDX_TYPES[content[2]])
    if len(shape) < dimensions or len(content) - start != shape.prod() * kind.itemsize:
        raise UserError(
            f"{file.name} is cut off or damaged: its head announces an array of "
            f"{'x'.join(map(str, shape))}"
        )
    return np.frombuffer(content[start:], kind).reshape(shape).astype(kind.newbyteorder("="))


def is_idx(file: Path) -> bool:
    """Return whether a file is called like an idx file (``train-images-idx3-ubyte.gz``)."""
    name = file.name.lower().removesuffix(".gz")
    return "-idx" in name or ".idx" in name


def idx_splits(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of each split of a folder of idx files.

    Raises:
        UserError: if a file of images has none of labels, or a name tells no split.
    """
    pairs: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file() or not is_idx(file):
            continue
        parts = file.name.lower().replace(".", "-").replace("_", "-").split("-")
        split = next((_ARRAY_SPLITS[part] for part in parts if part in _ARRAY_SPLITS), None)
        kind = next((kind for kind in ("images", "labels") if kind in parts), None)
        if split is None or kind is None:
            raise UserError(
                f"{file.name}: its name tells no split or not whether it has images or labels "
                "(train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-...)"
            )
        pairs.setdefault(split, {})[kind] = file
    found = {}
    for split, files in pairs.items():
        for kind in ("images", "labels"):
            if kind not in files:
                raise UserError(f"{folder}: there is no idx file with the {kind} of {split}")
        images = as_images(read_idx(files["images"]), files["images"].name)
        labels = as_labels(read_idx(files["labels"]), images, files["labels"].name)
        found[split] = images, labels
    return found


def npz_splits(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of each split of an npz file.

    Its arrays are called ``x_train`` and ``y_train``, ``test_images`` and ``test_labels`` and the
    like; ``x`` and ``y`` alone are one split, train.

    Raises:
        UserError: if it is no such file, or has no images and labels of train.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy and zipfile have no common base for what is damaged
        raise UserError(f"cannot read {file.name}: {' '.join(str(error).split())[:160]}") from error
    pairs: dict[str, dict[str, str]] = {}
    for name in arrays:
        parts = name.lower().replace("-", "_").split("_")
        split = next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), "train")
        for kind, names in (("images", _IMAGE_NAMES), ("labels", _LABEL_NAMES)):
            if any(part in names for part in parts):
                pairs.setdefault(split, {})[kind] = name
    found = {}
    for split, names_of in pairs.items():
        if set(names_of) != {"images", "labels"}:
            continue
        images = as_images(arrays[names_of["images"]], f"{file.name}: {names_of['images']}")
        labels = as_labels(arrays[names_of["labels"]], images, f"{file.name}: {names_of['labels']}")
        found[split] = images, labels
    if "train" not in found:
        raise UserError(
            f"{file.name} has no images and labels of train: its arrays are "
            f"{', '.join(sorted(arrays)) or 'none'}, name them x_train and y_train"
        )
    return found


def as_rows(rows: Iterable[Row]) -> Dataset:
    """Return rows as a table in memory."""
    columns: dict[str, list[Any]] = {"image": [], "label": []}
    for row in rows:
        for name, values in columns.items():
            values.append(row[name])
    return Dataset.from_dict(columns, features=FEATURES)


def _images(folder: Path) -> Iterator[Path]:
    return (
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and file.name[0] != "."
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error
