import re

import pytest

from distill.config import naming


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "run"),
        (["student=third"], "third"),
        (["student=third", "objective.soft_targets.temperature=4", "seed=1"], "third-T=4-seed=1"),
        (["objective.soft_targets.weight=0.5"], "soft_targets.weight=0.5"),
        (["student.layers=[0, 2]"], "layers=0,2"),
        (["data.path=../shared/data/sst2/"], "path=sst2"),
        (["optimizer.learning_rate=1e-4"], "lr=1e-4"),
    ],
)
def test_run_names(overrides, name, monkeypatch):
    monkeypatch.delenv(naming.SWEPT, raising=False)
    assert naming.run_name(overrides) == name


def test_a_sweep_names_only_what_it_varies(monkeypatch):
    monkeypatch.setenv(naming.SWEPT, "student,seed")
    given = ["data=files", "data.path=x", "student=half", "seed=3"]
    assert naming.job_dir(7, given) == "07-half-seed=3"


def test_run_folders():
    assert naming.run_dir("here", None, "n") == "here"
    assert naming.run_dir(None, "old", "n") == "old"
    assert re.fullmatch(
        r"runs/sst2-half-kd-\d{4}-\d{6}", naming.run_dir(None, None, "sst2-half-kd")
    )


def test_names_of_paths_and_layers():
    assert naming.path_name("a/b/sst2/") == "sst2"
    assert naming.path_name("a/reviews.csv.gz") == "reviews"
    assert naming.path_name({"train": "a/x.csv"}) == "x"
    assert naming.layers_name([0, 3]) == "layers-0-3"
    assert naming.layers_name("half") == "half"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/d/reviews.csv.gz", "reviews"),
        ("/d/sst2/train.csv", "sst2"),
        ("train.csv", "train"),
        ("someone/films", "films"),
        ({"train": "/d/nsmc/ratings_train.txt", "test": "/d/nsmc/ratings_test.txt"}, "nsmc"),
        ({"test": "/d/films/new/b.csv", "train": "/d/films/old/a.csv"}, "films"),
        ({"test": "late.csv", "train": "early.csv"}, "early"),
        ({"train": "/d/a.csv", "test": "/e/b.csv"}, "a"),
        ({"train": "한국어/학습.csv"}, "학습"),
    ],
)
def test_names_of_data(path, name):
    assert naming.path_name(path) == name
