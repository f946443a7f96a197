"""What every source of images promises, of every one that there is."""

import pytest

import distill.data.sources
from distill.core.errors import UserError
from distill.data.columns import content_hash
from distill.data.prepare import prepare_data
from distill.data.sources.base import DataSource
from distill.data.sources.digits import DigitsSource
from distill.data.sources.images import ImageSource
from distill.tasks.image_classification import ImageClassification
from tests.images import write_folder
from tests.subclasses import concrete_subclasses

SOURCES = [
    kind
    for kind in concrete_subclasses(DataSource, distill.data.sources)
    if issubclass(kind, ImageSource)
]
every_source = pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)


@pytest.fixture
def make(tmp_path):
    def build(kind, **settings):
        if kind is not DigitsSource:
            settings |= {"path": str(write_folder(tmp_path / "images"))}
        return kind(name="shapes", **settings)

    return build


def test_there_are_sources_of_images():
    assert {DigitsSource, ImageSource} <= set(SOURCES)


@every_source
def test_a_second_reading_gives_the_same_content_whatever_is_prepared(kind, make, tmp_path):
    first = make(kind).read(tmp_path / "cache")
    second = make(kind, limit=5, batch_size=3).read(tmp_path / "other cache")
    assert "train" in first and set(first) <= {"train", "validation", "test"}
    assert first.keys() == second.keys()
    for split, rows in first.items():
        assert {"image", "label"} <= set(rows.column_names)
        assert content_hash(rows) == content_hash(second[split])


@every_source
def test_the_rows_are_prepared_for_the_task(kind, make, tmp_path):
    schema = ImageClassification().schema
    data = prepare_data(make(kind), schema, tmp_path / "cache")
    limited = prepare_data(make(kind, limit=10), schema, tmp_path / "cache")
    assert data.name == "shapes" and len(data.label_names) >= 2
    assert limited.sizes == data.sizes | {"train": 10}
    assert limited.fingerprint == data.fingerprint


@every_source
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"limit": 0}, r"data\.limit=0: it must be 1 or more"),
        ({"batch_size": -1}, r"data\.batch_size=-1"),
        ({"unlabeled_limit": 5}, r"data\.unlabeled_limit=5 limits nothing"),
    ],
)
def test_common_options_are_checked_by_every_source(kind, make, settings, says):
    with pytest.raises(UserError, match=says):
        make(kind, **settings)
