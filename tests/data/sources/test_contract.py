"""What every data source promises, of every one that there is."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hydra.utils import get_class, instantiate

import distill.data.sources
from distill.config.resolvers import conf_dir
from distill.core.errors import UserError
from distill.data.columns import content_hash
from distill.data.prepare import prepare_data
from distill.data.sources import docstrings, hub
from distill.data.sources.base import DataSource
from distill.data.sources.digits import DigitsSource
from distill.data.sources.docstrings import DocstringSource
from distill.data.sources.files import FileSource
from distill.data.sources.hub import HubSource
from distill.data.sources.images import ImageSource
from distill.data.sources.tweets import TweetSource
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import composed, sentences, write_csv
from tests.subclasses import concrete_subclasses

# Those of images promise the same of other columns: test_image_contract.py.
ALL_SOURCES = concrete_subclasses(DataSource, distill.data.sources)
SOURCES = [kind for kind in ALL_SOURCES if not issubclass(kind, ImageSource)]
IMAGE_SOURCES = [kind for kind in ALL_SOURCES if issubclass(kind, ImageSource)]
# What presets of images leave out.
TEXT_OPTIONS = {
    "text", "text_pair", "max_length", "label_separator", "unlabeled_select",
    "unlabeled_neighbors", "unlabeled_encoder",
}  # fmt: skip
SIZES = {"train": 40, "validation": 20, "test": 30}


def rows_of(split: str) -> list[dict[str, str]]:
    return sentences(SIZES[split], list(SIZES).index(split))


def files(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    for split in SIZES:
        write_csv(folder / "films" / f"{split}.csv", rows_of(split))
    return {"path": str(folder / "films")}


def hub_set(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The hub's own loader is not asked: it cannot be reached."""
    splits = {split: Dataset.from_list(rows_of(split)) for split in SIZES}
    patch.setattr(hub, "read_with_datasets", lambda *_, **__: dict(splits))
    return {"path": "someone/films"}


def docstring_set(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The installed libraries are not read: that takes half a minute."""
    patch.setattr(docstrings, "load", lambda *_: {split: rows_of(split) for split in SIZES})
    patch.setattr(docstrings, "load_rest", lambda *_: ["a text that is left over"])
    return {"per_library": 10}


def tweet_set(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The package need not be installed."""
    splits = {split: rows_of(split) for split in SIZES}
    patch.setattr("distill.data.readers.tweets.load", lambda: splits)
    return {}


CASES: dict[type[DataSource], Callable] = {
    FileSource: files, HubSource: hub_set, DocstringSource: docstring_set, TweetSource: tweet_set,
}  # fmt: skip
every_source = pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)


@pytest.fixture
def make(tmp_path, monkeypatch):
    def build(kind: type[DataSource], **settings: Any) -> DataSource:
        return kind(name="films", **CASES[kind](tmp_path, monkeypatch) | settings)

    return build


def test_every_source_has_a_case():
    assert set(CASES) == set(SOURCES)


@every_source
def test_splits_are_those_that_there_are_and_train_is_among_them(kind, make, tmp_path):
    splits = make(kind).read(tmp_path / "cache")
    assert "train" in splits
    assert set(splits) <= {"train", "validation", "test"}
    for split, rows in splits.items():
        assert isinstance(rows, Dataset)
        assert len(rows) == SIZES[split]
        assert {"text", "label"} <= set(rows.column_names)
        assert [dict(row) for row in rows] == rows_of(split)  # unchanged


@every_source
def test_a_second_reading_gives_the_same_content(kind, make, tmp_path):
    source = make(kind)
    first, second = (source.read(tmp_path / "cache") for _ in range(2))
    elsewhere = source.read(tmp_path / "other cache")
    assert first.keys() == second.keys() == elsewhere.keys()
    for split, rows in first.items():
        assert content_hash(rows) == content_hash(second[split]) == content_hash(elsewhere[split])


@every_source
def test_options_for_preparation_do_not_change_what_is_read(kind, make, tmp_path):
    plain = make(kind).read(tmp_path / "cache")
    other = make(kind, limit=5, max_length=7, batch_size=3, empty="drop").read(tmp_path / "cache")
    for split, rows in plain.items():
        assert content_hash(rows) == content_hash(other[split])


@every_source
def test_the_rows_are_prepared_for_a_task(kind, make, tmp_path):
    data = prepare_data(make(kind), SequenceClassification().schema, tmp_path / "cache")
    assert data.name == "films"
    assert data.label_names == ["negative", "positive"]
    assert data.sizes == SIZES and data.evaluated_on == "test"
    limited = prepare_data(
        make(kind, limit=10), SequenceClassification().schema, tmp_path / "cache"
    )
    assert limited.sizes == SIZES | {"train": 10}
    assert limited.fingerprint == data.fingerprint
    assert limited.splits["train"]["text"][:] == data.splits["train"]["text"][:10]


@every_source
def test_unlabeled_rows_of_another_name_are_not_the_sources_own(kind, make, tmp_path):
    assert make(kind).unlabeled_split("someone/other", tmp_path / "cache") is None


def test_unlabeled_rows_of_the_docstrings(make, tmp_path):
    rows = make(DocstringSource).unlabeled_split("docstrings", tmp_path / "cache")
    assert rows.to_dict() == {"text": ["a text that is left over"]}


@every_source
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"limit": 0}, r"data\.limit=0: it must be 1 or more"),
        ({"max_length": 0}, r"data\.max_length=0"),
        ({"batch_size": -1}, r"data\.batch_size=-1"),
        (
            {"unlabeled": "more.txt", "unlabeled_limit": -1},
            r"data\.unlabeled_limit=-1: .* 0 or more",
        ),
        ({"unlabeled": "more.txt", "unlabeled_select": "far"}, r"unlabeled_select=far: random or"),
        ({"unlabeled_select": "nearest"}, r"unlabeled_select=nearest selects nothing"),
        (
            {"unlabeled": "a", "unlabeled_select": "nearest", "unlabeled_neighbors": 0},
            r"data\.unlabeled_neighbors=0: it must be 1 or more",
        ),
        (
            {"unlabeled": "a", "unlabeled_neighbors": 3},
            r"neighbors=3 is about .*nearest, which is not",
        ),
        (
            {"unlabeled": "a", "unlabeled_encoder": "b"},
            r"encoder=b is about .*nearest, which is not",
        ),
        ({"unlabeled": []}, r"data\.unlabeled=\[\] names nothing"),
        ({"unlabeled_limit": 5}, r"data\.unlabeled_limit=5 limits nothing"),
        ({"empty": "keep"}, r"data\.empty=keep: choose error or drop"),
        ({"label_separator": ""}, r"data\.label_separator is empty"),
        ({"augmentation": "masking"}, r"augmentation=masking"),
    ],
)
def test_common_options_are_checked_by_every_source(kind, settings, says, make):
    with pytest.raises(UserError, match=says):
        make(kind, **settings)


@every_source
def test_columns_may_be_numbers(kind, make):
    source = make(kind, text=1, label=2)
    assert (source.text, source.label) == ("1", "2")


def test_a_source_without_a_training_split_is_refused(make, tmp_path, monkeypatch):
    (Path(make(FileSource).path) / "train.csv").unlink()
    with pytest.raises(UserError, match="no training file"):
        FileSource(name="films", path=str(tmp_path / "films")).read(tmp_path)
    source = make(HubSource)
    monkeypatch.setattr(
        hub, "read_with_datasets", lambda *_, **__: {"test": Dataset.from_list(rows_of("test"))}
    )
    with pytest.raises(UserError, match="has no train split"):
        source.read(tmp_path)


@every_source
def test_every_option_is_documented(kind):
    documented = "\n".join(base.__doc__ or "" for base in kind.__mro__)
    roles = set(kind.column_roles)
    assert roles <= {option.name for option in dataclasses.fields(kind)}
    for option in dataclasses.fields(kind):
        assert re.search(rf"^        {option.name}: \S", documented, re.M), option.name


def presets() -> list[str]:
    return sorted(path.stem for path in (Path(conf_dir()) / "data").glob("*.yaml"))


def preset_config(preset: str):
    own = ["data.path=someone/films"] if preset in ("files", "hub", "images") else []
    return composed(f"data={preset}", *own).data


@pytest.mark.parametrize("preset", presets())
def test_every_preset_makes_a_source(preset):
    config = preset_config(preset)
    source = instantiate(config, _convert_="all")
    assert type(source) in [*SOURCES, *IMAGE_SOURCES]
    assert source.name
    # A preset leaves no option out: what is not there cannot be found by a user.
    options = {option.name for option in dataclasses.fields(source)}
    of_texts = TEXT_OPTIONS if type(source) in IMAGE_SOURCES else set()
    own = {"path"} if isinstance(source, DigitsSource) else set()
    assert set(config) == options - of_texts - own | {"_target_"}


def test_every_source_has_a_preset():
    assert {get_class(preset_config(preset)._target_) for preset in presets()} == {
        *SOURCES, *IMAGE_SOURCES
    }  # fmt: skip


def test_a_source_without_a_method_cannot_be_made():
    with pytest.raises(TypeError, match="read"):
        type("Incomplete", (DataSource,), {})(name="incomplete")


@pytest.mark.slow
def test_the_docstrings_of_the_installed_libraries(tmp_path):
    pytest.importorskip("sklearn")
    source = DocstringSource(name="docstrings", per_library=20)
    splits = source.read(tmp_path)
    assert set(splits) == {"train", "validation", "test"}
    assert sum(map(len, splits.values())) == 20 * len(docstrings.LIBRARIES)
    labels = {label for rows in splits.values() for label in rows["label"][:]}
    assert labels == set(docstrings.LIBRARIES)
