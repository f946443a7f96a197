"""Sources of images: folders, tables, arrays, parquet; and what is wrong with them."""

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from distill.core.errors import UserError
from distill.data.images import decode
from distill.data.prepare import prepare_data
from distill.data.sources.digits import DigitsSource
from distill.data.sources.images import ImageSource
from distill.tasks.image_classification import ImageClassification
from tests.images import CLASSES, image_array, write_folder

IMAGES = image_array(40, 1)
LABELS = np.arange(40) % 2


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, name: str, array: np.ndarray, compress: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    content = gzip.compress(idx(array)) if compress else idx(array)
    (folder / (name + ".gz" * compress)).write_bytes(content)
    return folder


def write_more(folder: Path) -> Path:
    """Images that are not among those of the classes, in no folders of classes."""
    folder.mkdir()
    for index, image in enumerate(image_array(12, 2)):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def read(path: Path, cache: Path, **settings) -> dict[str, Dataset]:
    return ImageSource(name="images", path=str(path), **settings).read(cache)


def pixels(rows: Dataset, column: str = "image") -> list[np.ndarray]:
    return [np.asarray(decode(cell)) for cell in rows[column][:]]


def prepared(path: Path, cache: Path, **settings):
    source = ImageSource(name="images", path=str(path), **settings)
    return prepare_data(source, ImageClassification().schema, cache)


def test_a_folder_for_each_class(tmp_path):
    rows = read(write_folder(tmp_path / "images"), tmp_path / "cache")
    assert list(rows) == ["train"]
    order = [*range(0, 40, 2), *range(1, 40, 2)]
    assert rows["train"]["label"][:] == [CLASSES[index % 2] for index in order]
    assert np.array_equal(pixels(rows["train"]), IMAGES[order])
    assert rows["train"][0]["image"]["path"] == "bottom/000.png"


def test_folders_of_splits(tmp_path):
    for split in ("train", "val", "test"):
        write_folder(tmp_path / "images" / split)
    assert set(read(tmp_path / "images", tmp_path / "cache")) == {"train", "validation", "test"}


def test_a_changed_file_is_read_again(tmp_path):
    folder = write_folder(tmp_path / "images")
    before = read(folder, tmp_path / "cache")["train"]
    Image.fromarray(IMAGES[1]).resize((3, 3)).save(folder / "bottom" / "000.png")
    after = read(folder, tmp_path / "cache")["train"]
    assert pixels(before)[0].shape == (8, 8) and pixels(after)[0].shape == (3, 3)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_as_mnist_has_it(tmp_path, compress):
    for name, array in (
        ("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", LABELS),
        ("t10k-images-idx3-ubyte", IMAGES[:6]), ("t10k-labels-idx1-ubyte", LABELS[:6]),
    ):  # fmt: skip
        write_idx(tmp_path / "mnist", name, array, compress)
    rows = read(tmp_path / "mnist", tmp_path / "cache")
    assert {split: len(part) for split, part in rows.items()} == {"train": 40, "test": 6}
    assert np.array_equal(pixels(rows["test"]), IMAGES[:6])
    assert rows["test"]["label"][:] == ["0", "1"] * 3


@pytest.mark.parametrize(
    "names", [("x_train", "y_train", "x_test", "y_test"),
              ("train_images", "train_labels", "test_images", "test_labels")],
)  # fmt: skip
def test_npz(tmp_path, names):
    colors = image_array(40, 1, colors=True)
    arrays = dict(zip(names, (colors, LABELS[:, None], colors[:4], LABELS[:4]), strict=True))
    np.savez(tmp_path / "images.npz", **arrays)
    rows = read(tmp_path / "images.npz", tmp_path / "cache")
    assert {split: len(part) for split, part in rows.items()} == {"train": 40, "test": 4}
    assert np.array_equal(pixels(rows["train"]), colors)


@pytest.mark.parametrize("columns", [("file", "label"), ("filename", "class")])
def test_a_table_of_files(tmp_path, columns):
    folder = write_folder(tmp_path / "images")
    files = sorted(str(file.relative_to(tmp_path)) for file in folder.rglob("*.png"))
    lines = [",".join(columns), *(f"{file},{file.split('/')[1]}" for file in files)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    data = prepared(tmp_path / "labels.csv", tmp_path / "cache", label=columns[1])
    assert data.label_names == list(CLASSES) and sum(data.sizes.values()) == 40


def test_parquet_with_a_column_of_images(tmp_path):
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=["low", "high"])})
    rows = {"img": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = prepared(tmp_path / "train.parquet", tmp_path / "cache")
    assert data.label_names == ["low", "high"] and sum(data.sizes.values()) == 40
    assert {image.shape for image in pixels(data.splits["train"])} == {(8, 8)}


def test_unlabeled_images_of_a_folder(tmp_path):
    labeled = write_folder(tmp_path / "labeled")
    more = write_more(tmp_path / "more")
    shutil.copy(labeled / "top" / "001.png", more / "again.png")
    data = prepared(labeled, tmp_path / "cache", unlabeled=str(more))
    assert data.sizes["unlabelled"] == 12
    assert any("12 images without labels" in note for note in data.notes)
    assert any("Left out of the images without labels" in note for note in data.notes)


def test_what_the_limit_leaves_serves_without_labels(tmp_path):
    folder = write_folder(tmp_path / "images")
    data = prepared(folder, tmp_path / "cache", limit=10, unlabeled="train")
    assert data.sizes["train"] == 10
    assert sum(data.sizes.values()) == 40


def test_digits():
    rows = DigitsSource(name="digits").read(Path())
    assert {split: len(part) for split, part in rows.items()} == {
        "train": 1000, "validation": 197, "test": 600,
    }  # fmt: skip
    assert set(rows["train"]["label"][:]) == set("0123456789")
    images = np.stack(pixels(rows["test"]))
    assert images.shape == (600, 8, 8) and images.min() == 0 and images.max() == 255


def damaged(folder: Path) -> Path:
    write_folder(folder)
    file = folder / "top" / "011.png"
    file.write_bytes(file.read_bytes()[:90])
    return folder


def npz(**arrays: np.ndarray):
    def write(folder: Path) -> Path:
        np.savez(folder.with_suffix(".npz"), **arrays)
        return folder.with_suffix(".npz")

    return write


def only_in_test(folder: Path) -> Path:
    write_folder(folder / "train")
    write_folder(folder / "test")
    (folder / "test" / "top").rename(folder / "test" / "middle")
    return folder


def cut_off(folder: Path) -> Path:
    write_idx(folder, "train-labels-idx1-ubyte", LABELS)
    write_idx(folder, "train-images-idx3-ubyte", IMAGES, compress=False)
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    return folder


def table(content: str):
    def write(folder: Path) -> Path:
        folder.with_suffix(".csv").write_text(content)
        return folder.with_suffix(".csv")

    return write


def nothing(folder: Path) -> Path:
    folder.mkdir()
    (folder / "report.doc").write_text("")
    return folder


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (damaged, r"row 26: the image top/011.png cannot be read"),
        (only_in_test, r"test row 21 has the label 'middle', which train does not have"),
        (npz(x_train=IMAGES / 255, y_train=LABELS), "x_train holds float64, not bytes"),
        (npz(x_train=np.zeros((40, 8, 8, 4), np.uint8), y_train=LABELS), r"\(40, 8, 8, 4\)"),
        (npz(x_train=IMAGES, y_train=LABELS[:9]), "40 images and 9 labels"),
        (npz(x_train=IMAGES, y_train=LABELS / 2), "labels are whole numbers or names"),
        (npz(x_train=IMAGES), "no images and labels of train: its arrays are x_train"),
        (cut_off, "its head announces an array of 40x8x8"),
        (lambda folder: write_idx(folder, "train-images-idx3-ubyte", IMAGES),
         "no idx file with the labels of train"),
        (table("file,label\nno.png,a\nnor.png,b\n"), "train row 1: there is no image no.png"),
        (table("number,label\n1,a\n2,b\n"), "data.image=file: train has no such column"),
        (nothing, "has no images in a form that is read .*: it holds report.doc"),
        (lambda folder: folder, "there is no such file or folder"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, write, message):
    path = write(tmp_path / "images")
    with pytest.raises(UserError, match=message) as refused:
        prepared(path, tmp_path / "cache")
    assert "\n" not in str(refused.value)
