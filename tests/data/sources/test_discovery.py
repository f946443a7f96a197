"""Which files of a folder are taken for which split."""

import pytest
from datasets import Dataset, DatasetDict

from distill.core.errors import UserError
from distill.data.sources.files import FileSource
from tests.factories import sentences, write_csv

CONLL = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nsays VBZ B-VP O\n"


def written(folder, *names: str):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if ".tsv" in name or ".txt" in name:
            file.write_text("text\tlabel\nx\t0\ny\t1\n")
        elif ".json" in name:
            file.write_text('{"text": "x", "label": 0}\n')
        elif ".parquet" in name:
            Dataset.from_list([{"text": name, "label": 0}]).to_parquet(file)
        elif ".csv" in name:
            file.write_text("text,label\nx,0\n")
        else:
            file.write_text(CONLL)
    return folder


def read(folder, tmp_path, **settings):
    source = FileSource(name="d", path=str(folder), **settings)
    return source.read(tmp_path / "cache"), source.read_notes


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["ratings_train.txt", "ratings_test.txt", "ratings.txt"], "train test"),
        (["sts-train.tsv", "sts-dev.tsv", "sts-test.tsv"], "train validation test"),
        (["klue-nli-v1.1_train.json", "klue-nli-v1.1_dev.json"], "train validation"),
        (["en_x-ud-train.conllu", "en_x-ud-dev.conllu"], "train validation"),
        (["eng.train", "eng.testa", "eng.testb"], "train validation test"),
        (["KorQuAD_v1.0_train.json", "KorQuAD_v1.0_dev.json"], "train validation"),
        (["msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "msr_data.txt"], "train test"),
        (["Train.csv", "VALID.csv"], "train validation"),
        (["train.csv", "test.csv", "test_labels.csv", "sample_submission.csv"], "train test"),
        (["train.csv", "train_extra.csv", "dev.csv"], "train validation"),
    ],
)
def test_names_that_publishers_give(tmp_path, names, splits):
    found, notes = read(written(tmp_path / "d", *names), tmp_path)
    assert set(found) == set(splits.split())
    exact = any(name.lower().startswith("train.") for name in names)
    assert any("was taken for the train split" in note for note in notes) != exact


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a_train.tsv", "b_train.tsv"], "two files for train"),
        (["dev_matched.tsv", "dev_mismatched.tsv", "x_train.tsv"], "two files for validation"),
        (["reviews.csv", "more.csv"], "no training file .*it holds more.csv, reviews.csv"),
        ([], "it is empty"),
        (["a/train.csv", "b/train.csv"], "several folders .*data.path="),
        (["data/train-00000-of-00002.parquet"], "number 00001 is missing"),
        (["train.xml"], "no training file"),
    ],
)
def test_what_is_not_certain_is_refused(tmp_path, names, says):
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match=says):
        read(written(tmp_path / "d", *names), tmp_path)


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["data/train-00000-of-00001.parquet", "README.md"], 1),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], 2),
        (["ynat/train-00000-of-00001.parquet", ".huggingface/x.csv"], 1),
        (["snapshots/abc/data/train-00000-of-00001.parquet", "blobs/x"], 1),
        (["snapshots/abc/train.csv", "refs/main"], 1),
        (["default/train/0000.parquet", "default/test/0000.parquet"], 1),
        (["train/0000.parquet", "train/0001.parquet"], 2),
    ],
)
def test_folders_as_the_hub_hands_them_out(tmp_path, names, count):
    found, _ = read(written(tmp_path / "d", *names), tmp_path)
    assert len(found["train"]) == count


def test_parts_keep_their_order(tmp_path):
    names = [f"data/train-{index:05d}-of-00003.parquet" for index in range(3)]
    found, _ = read(written(tmp_path / "d", *names), tmp_path)
    assert found["train"]["text"][:] == names


@pytest.mark.parametrize("single", [True, False])
def test_what_datasets_saved_to_disk(tmp_path, single):
    rows = sentences(20, 1)
    saved = Dataset.from_list(rows) if single else DatasetDict(
        train=Dataset.from_list(rows), dev=Dataset.from_list(rows[:5]),
        unsupervised=Dataset.from_list(rows[:2]),
    )  # fmt: skip
    saved.save_to_disk(tmp_path / "saved")
    found, notes = read(tmp_path / "saved", tmp_path)
    assert found["train"].to_list() == rows
    assert set(found) == ({"train"} if single else {"train", "validation"})
    assert notes == ([] if single else ["The splits unsupervised of saved are not used."])
    (tmp_path / "saved" / ("state.json" if single else "dataset_dict.json")).write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "saved", tmp_path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_in_either_unicode_form(tmp_path, form):
    from unicodedata import normalize

    write_csv(tmp_path / normalize(form, "영화 é") / "train.csv", sentences(20, 1))
    for typed in ("NFC", "NFD"):
        found, _ = read(tmp_path / normalize(typed, "영화 é"), tmp_path)
        assert len(found["train"]) == 20
