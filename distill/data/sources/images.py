"""Images: a folder for each class, tables of file and label, arrays, parquet, the hub."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.columns import iter_chunks
from distill.data.images import CELL, as_cells
from distill.data.readers import image_files
from distill.data.readers.stored import file_hash, write_rows
from distill.data.sources.base import SPLIT_NAMES, DataSource
from distill.data.sources.discovery import describe_content
from distill.data.sources.files import FORMATS, FileSource, data_suffix, existing_path
from distill.data.sources.hub import HubSource

# Usual names of columns in a table of image files.
FILE_COLUMNS = ("file", "file_name", "filename", "image", "path", "image_path", "img")
LABEL_COLUMNS = ("label", "class", "category", "target")
FORMS = (
    "a folder for each class (in train, validation and test, or all to be split), a table of file "
    "and label (csv, tsv), idx or npz, parquet with a column of images"
)


@dataclass(kw_only=True)
class ImageSource(DataSource):
    """Labeled images in files.

    Attributes:
        path: a folder with a folder for each class, directly or in ``train``, ``validation`` and
            ``test``; a table (csv, tsv) of file and label; idx files as MNIST has them; npz;
            parquet; or a hub id.
        image: column of the images, or of their files; ``None``: the usual names.
    """

    column_roles: ClassVar[tuple[str, ...]] = ("image", "label")
    reads_unlabeled_paths: ClassVar[bool] = True

    path: str
    image: str | None = None

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the images of each split as they are."""
        self.read_notes = []
        path = existing_path(self.path)
        if not path.exists():
            if self.path.count("/") == 1 and not self.path.startswith((".", "~", "/")):
                return self._with_cells(HubSource(name=self.name, path=self.path).read(cache_dir))
            raise UserError(f"data.path={self.path}: there is no such file or folder")
        if path.is_file() and path.suffix == ".npz":
            return self._arrays(image_files.npz_splits(path), [path], cache_dir)
        if path.is_dir() and (
            files := [f for f in sorted(path.iterdir()) if image_files.is_idx(f)]
        ):
            return self._arrays(image_files.idx_splits(path), files, cache_dir)
        if path.is_dir() and (folders := _split_folders(path)):
            return {split: self._folder(folder, cache_dir) for split, folder in folders.items()}
        suffixes = {data_suffix(f) for f in (path.iterdir() if path.is_dir() else [path])}
        if suffixes & set(FORMATS):
            rows = FileSource(name=self.name, path=str(path))
            found = self._with_cells(rows.read(cache_dir))
            self.read_notes += rows.read_notes
            folder = path if path.is_dir() else path.parent
            return {
                split: self._of_table(split, rows, folder, cache_dir)
                for split, rows in found.items()
            }
        content = f": {describe_content(path)}" if path.is_dir() else ""
        raise UserError(
            f"data.path={self.path} has no images in a form that is read ({FORMS}){content}"
        )

    def unlabeled_split(self, name: str, cache_dir: Path) -> Dataset | None:
        """Return the images in a folder and all folders below it; ``None`` for other names."""
        folder = existing_path(name)
        if name in SPLIT_NAMES or not folder.is_dir():
            return None
        state = image_files.image_state(folder)
        if not state:
            raise UserError(f"data.unlabeled={name}: there are no images in it")
        key = cache_key(kind="images", format=1, files=state)
        return _kept(
            cache_dir / "data" / f"images-{key}",
            lambda: image_files.as_rows(image_files.rows_of_images(folder)),
        )

    def column_hint(self) -> str:
        """Name the forms that are read."""
        return f"; images come as {FORMS}"

    def _with_cells(self, splits: Mapping[str, Dataset]) -> dict[str, Dataset]:
        return {split: as_cells(rows) for split, rows in splits.items()}

    def _folder(self, folder: Path, cache_dir: Path) -> Dataset:
        """Return the images of a folder of classes, read again when a file has changed."""
        state = image_files.folder_state(folder)
        key = cache_key(kind="image_folder", format=1, files=state)
        return _kept(
            cache_dir / "data" / f"images-{key}",
            lambda: image_files.as_rows(image_files.rows_of_folder(folder)),
        )

    def _arrays(
        self, splits: Mapping[str, Any], files: list[Path], cache_dir: Path
    ) -> dict[str, Dataset]:
        content = [file_hash(file) for file in files]
        name = files[0].name

        def read(images: Any, labels: Any) -> Callable[[], Dataset]:
            return lambda: image_files.as_rows(image_files.rows_of_arrays(images, labels, name))

        return {
            split: _kept(
                cache_dir / "data" / "images-"
                f"{cache_key(kind='image_arrays', format=1, files=content, split=split)}",
                read(images, labels),
            )
            for split, (images, labels) in splits.items()
        }

    def _of_table(self, split: str, rows: Dataset, folder: Path, cache_dir: Path) -> Dataset:
        """Return the images of a table: in one of its columns, or in the files that it names."""
        names = rows.column_names
        image = self.image or next((name for name in FILE_COLUMNS if name in names), None)
        label = self.label or next((name for name in LABEL_COLUMNS if name in names), None)
        if image not in names or label not in names:
            role, given = ("image", image) if image not in names else ("label", label)
            raise UserError(
                f"data.{role}={given or FILE_COLUMNS[0] if role == 'image' else given or 'label'}: "
                f"{split} has no such column, it has {', '.join(names)}"
            )
        if getattr(rows.features[image], "dtype", None) not in ("string", "large_string"):
            return rows.rename_columns({str(image): "image"}) if image != "image" else rows
        table = [
            {"file": file, "label": value}
            for _, chunk in iter_chunks(rows, [str(image), str(label)])
            for file, value in zip(chunk[str(image)], chunk[str(label)], strict=True)
        ]
        state = [
            (row["file"], row["label"], *_size_and_time(folder / str(row["file"]))) for row in table
        ]
        key = cache_key(kind="image_table", format=1, files=state)
        read = _kept(
            cache_dir / "data" / f"images-{key}",
            lambda: image_files.as_rows(image_files.rows_of_table(table, folder, split)),
        )
        return read if label == "label" else read.rename_columns({"label": str(label)})


def _split_folders(path: Path) -> dict[str, Path]:
    """Return the folder of classes of each split; of a folder of classes itself, train."""
    found: dict[str, Path] = {}
    for folder in sorted(path.iterdir()):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is not None and folder.is_dir() and image_files.class_folders(folder):
            if split in found:
                raise UserError(
                    f"data.path={path}: two folders for {split} ({found[split].name}, "
                    f"{folder.name})"
                )
            found[split] = folder
    if found:
        if "train" not in found:
            raise UserError(f"data.path={path}: there is no folder train in it")
        return found
    return {"train": path} if image_files.class_folders(path) else {}


def _kept(folder: Path, read: Callable[[], Dataset]) -> Dataset:
    """Return rows from the cache, where they are written once, to be mapped into memory."""
    get_or_create(folder, lambda partial: write_rows(partial / "rows.arrow", read()))
    rows = Dataset.from_file(str(folder / "rows.arrow"))
    return rows.cast_column("image", CELL)


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return -1, -1  # reported when the images are read
    return stat.st_size, stat.st_mtime_ns
