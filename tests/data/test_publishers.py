"""Files in the layouts that publishers hand out, made up here, through to prepared data."""

import json
from pathlib import Path

import pytest

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.data.sources.files import FileSource
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification

SIZES = {"train": 40, "dev": 12, "test": 14}


def write(folder: Path, name: str, lines, end: str = "\n", mark: str = ""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((mark + end.join(lines) + end).encode())


def prepared(folder, task, **settings):
    source = FileSource(name="d", path=str(folder), **settings)
    return prepare_data(source, task().schema, folder.parent / "cache")


def labels_by_text(data, split="test"):
    rows = data.splits[split]
    return dict(zip(rows["text"], rows["label"], strict=True))


def by_name(data, split="test"):
    return {text: data.label_names[label] for text, label in labels_by_text(data, split).items()}


# --- GLUE -----------------------------------------------------------------------------------------


def test_sst2(tmp_path):
    """A header, no quoting, quotes in texts, an index instead of labels in test."""
    for split, count in SIZES.items():
        rows = [f"it 's \"good {split} {index}\t{index % 2}" for index in range(count)]
        header = "sentence\tlabel"
        if split == "test":
            header, rows = "index\tsentence", [f"{index}\tnot known" for index in range(count)]
        write(tmp_path / "SST-2", f"{split}.tsv", [header, *rows])
    data = prepared(tmp_path / "SST-2", SequenceClassification, text="sentence")
    assert data.evaluated_on == "validation" and data.label_names == ["0", "1"]
    assert by_name(data) == {f"it 's \"good dev {index}": str(index % 2) for index in range(12)}
    assert any("test split has no labels (no column label)" in note for note in data.notes)


def test_cola(tmp_path):
    """No header in train and dev, one in test."""
    for split, count in SIZES.items():
        rows = [f"gj04\t{index % 2}\t{'*' * (1 - index % 2)}\tThey {split} {index}."
                for index in range(count)]  # fmt: skip
        if split == "test":
            rows = ["index\tsentence", *(f"{index}\tIt {index}." for index in range(count))]
        write(tmp_path / "CoLA", f"{split}.tsv", rows)
    settings = {"columns": ["source", "label", "mark", "sentence"], "text": "sentence"}
    data = prepared(tmp_path / "CoLA", SequenceClassification, **settings)
    assert by_name(data) == {f"They dev {index}.": str(index % 2) for index in range(12)}
    with pytest.raises(UserError, match=r"data\.columns=\[\.\.\.\] names the columns of a table"):
        prepared(tmp_path / "CoLA", SequenceClassification, text="sentence")


def test_mrpc(tmp_path):
    """Tabs in a file called txt, a byte order mark, names with # and spaces, CRLF."""
    for split in ("train", "test"):
        rows = [f'{index % 2}\t{index}\t{index + 1}\t"{split} {index}\tthe second {index}'
                for index in range(SIZES[split])]  # fmt: skip
        header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        write(tmp_path / "MRPC", f"msr_paraphrase_{split}.txt", [header, *rows], "\r\n", "\ufeff")
    names = {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"}
    data = prepared(tmp_path / "MRPC", SequenceClassification, **names)
    assert by_name(data) == {f'"test {index}': str(index % 2) for index in range(14)}
    assert data.splits["test"]["text_pair"][3] == "the second 3"


def test_stsb_and_korsts(tmp_path):
    """Scores; KorSTS writes its header with a score of one decimal."""
    for split, count in SIZES.items():
        rows = [f"main-news\tMSR\t2012\t{index:04d}\t{index % 6}.0\t문장 {split} {index}\t다른 문장"
                for index in range(count)]  # fmt: skip
        header = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2"
        write(tmp_path / "KorSTS", f"sts-{split}.tsv", [header, *rows])
    names = {"text": "sentence1", "text_pair": "sentence2", "label": "score"}
    data = prepared(tmp_path / "KorSTS", Regression, **names)
    assert labels_by_text(data) == {f"문장 test {index}": index % 6 for index in range(14)}


def test_qqp_has_lines_that_are_cut_short(tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    rows = [f"{index}\t1\t2\tq {index}\tp\t{index % 2}" for index in range(40)]
    write(tmp_path / "QQP", "train.tsv", [header, *rows[:20], "20\t1\tq", *rows[20:]])
    names = {"text": "question1", "text_pair": "question2", "label": "is_duplicate"}
    with pytest.raises(UserError, match=r"line 22 has 3 fields .*data\.bad_lines=drop"):
        prepared(tmp_path / "QQP", SequenceClassification, **names)
    data = prepared(tmp_path / "QQP", SequenceClassification, bad_lines="drop", **names)
    assert sum(data.sizes.values()) == 40


def test_snli(tmp_path):
    """jsonl with a gold label of - where annotators disagreed, and the texts of each of them."""
    for split, count in SIZES.items():
        rows = [
            json.dumps({
                "annotator_labels": ["neutral"], "sentence1": f"{split} {index}", "sentence2": "x",
                "gold_label": "-" if index % 8 == 7 else ("entailment", "neutral")[index % 2],
            })
            for index in range(count)
        ]  # fmt: skip
        write(tmp_path / "snli", f"snli_1.0_{split}.jsonl", rows)
    names = {"text": "sentence1", "text_pair": "sentence2", "label": "gold_label"}
    data = prepared(tmp_path / "snli", SequenceClassification, **names)
    assert data.label_names == ["entailment", "neutral"]
    assert data.sizes == {"train": 35, "validation": 11, "test": 13}


# --- Korean ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["drop", "error"])
def test_nsmc(tmp_path, empty):
    """ratings_train.txt: tabs, and documents that are empty."""
    for split in ("train", "test"):
        rows = [f'{index}\t영화 "{split} {index}\t{index % 2}' for index in range(SIZES[split])]
        write(tmp_path / "nsmc", f"ratings_{split}.txt", ["id\tdocument\tlabel", *rows, "9\t\t1"])
    write(tmp_path / "nsmc", "ratings.txt", ["id\tdocument\tlabel", "1\tx\t1"])
    if empty == "error":
        with pytest.raises(UserError, match="1 texts of train are empty"):
            prepared(tmp_path / "nsmc", SequenceClassification, text="document")
        return
    data = prepared(tmp_path / "nsmc", SequenceClassification, text="document", empty=empty)
    assert by_name(data) == {f'영화 "test {index}': str(index % 2) for index in range(14)}


def test_klue_classification_and_similarity(tmp_path):
    """A list of objects; the labels of similarity are records."""
    for split in ("train", "dev"):
        nli = [
            {"guid": f"{split}{index}", "premise": f"{split} {index}", "hypothesis": "가설",
             "gold_label": ("entailment", "neutral", "contradiction")[index % 3], "author": "x"}
            for index in range(SIZES[split])
        ]  # fmt: skip
        sts = [
            {"sentence1": f"{split} {index}", "sentence2": "둘", "labels": {
                "label": index % 6, "real-label": index % 6 + 0.25, "binary-label": index % 2}}
            for index in range(SIZES[split])
        ]  # fmt: skip
        for name, rows in (("nli", nli), ("sts", sts)):
            text = json.dumps(rows, ensure_ascii=False, indent=2)
            write(tmp_path / name, f"klue-{name}-v1.1_{split}.json", [text])
    names = {"text": "premise", "text_pair": "hypothesis", "label": "gold_label"}
    data = prepared(tmp_path / "nli", SequenceClassification, **names)
    assert data.label_names == ["contradiction", "entailment", "neutral"]
    names = {"text": "sentence1", "text_pair": "sentence2"}
    data = prepared(tmp_path / "sts", Regression, label="labels.real-label", **names)
    assert labels_by_text(data) == {f"dev {index}": index % 6 + 0.25 for index in range(12)}
    data = prepared(tmp_path / "sts", SequenceClassification, label="labels.binary-label", **names)
    assert by_name(data) == {f"dev {index}": str(index % 2) for index in range(12)}


def test_klue_ner(tmp_path):
    """A character per line, spaces among them, sentences as comments."""
    lines = ["# a comment of the file"]
    for index in range(40):
        lines += [f"## klue-ner-v1_{index:05d}\t<김:PS>은 간다", "김\tB-PS", "은\tO", " \tO",
                  f"{index % 10}\tO", ""]  # fmt: skip
    write(tmp_path / "ner", "klue-ner-v1.1_train.tsv", lines)
    data = prepared(tmp_path / "ner", TokenClassification, layout="conll")
    assert data.label_names == ["B-PS", "O"] and sum(data.sizes.values()) == 40
    assert data.splits["test"]["text"][0][:3] == ["김", "은", " "]


def squad(split, contexts, **question):
    return json.dumps({
        "version": "v2", "data": [
            {"title": "t", "paragraphs": [{
                "context": f"{split} {number} 은 답이다", "qas": [
                    {"id": f"{number}-{index}", "question": f"q {number} {index}?",
                     "answers": [{"text": split, "answer_start": 0}]} | question
                    for index in range(2)
                ],
            }]}
            for number in range(contexts)
        ],
    }, ensure_ascii=False)  # fmt: skip


@pytest.mark.parametrize("flag", ["false", "False", False, "no", 0, None])
def test_korquad_and_flags_as_text(tmp_path, flag):
    for split in ("train", "dev"):
        text = squad(split, 10, is_impossible=flag)
        write(tmp_path / "korquad", f"KorQuAD_v1.0_{split}.json", [text])
    data = prepared(tmp_path / "korquad", QuestionAnswering)
    assert data.evaluated_on == "validation"
    assert all(
        label == {"text": ["dev"], "answer_start": [0]} for label in data.splits["test"]["label"]
    )
    rows = [json.loads(line) for line in data.splits["test"].to_pandas().to_json(
        orient="records", lines=True, force_ascii=False).splitlines()]  # fmt: skip
    flat = [
        {"question": row["text"], "context": row["text_pair"], "answers": row["label"],
         "is_impossible": flag}
        for row in rows
    ]  # fmt: skip
    write(tmp_path / "flat", "train.jsonl", [json.dumps(row) for row in flat])
    data = prepared(tmp_path / "flat", QuestionAnswering)
    assert all(label["text"] == ["dev"] for label in data.splits["test"]["label"])


@pytest.mark.parametrize("flag", ["true", "TRUE", True, "1"])
def test_impossible_questions_have_no_answer(tmp_path, flag):
    text = json.loads(squad("train", 10))
    for article in text["data"]:
        article["paragraphs"][0]["qas"][0]["is_impossible"] = flag
    write(tmp_path / "d", "train.json", [json.dumps(text)])
    data = prepared(tmp_path / "d", QuestionAnswering)
    answers = [len(row["text"]) for part in data.splits.values() for row in part["label"]]
    assert sorted(answers) == [0] * 10 + [1] * 10
    article["paragraphs"][0]["qas"][0]["is_impossible"] = "maybe"
    write(tmp_path / "d", "train.json", [json.dumps(text)])
    with pytest.raises(UserError, match="is_impossible 'maybe', which is neither true nor false"):
        prepared(tmp_path / "d", QuestionAnswering)


# --- sequences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [
    ("eng.train", "eng.testa", "eng.testb"), ("train.txt", "valid.txt", "test.txt"),
    ("train.conll", "dev.conll", "test.conll"),
])  # fmt: skip
def test_conll_2003(tmp_path, names):
    for name, count in zip(names, SIZES.values(), strict=True):
        lines = ["-DOCSTART- -X- -X- O", ""]
        for index in range(count):
            lines += ["EU NNP I-NP I-ORG", "calls VBZ I-VP O", f"{index} CD I-NP O", ". . O O", ""]
        write(tmp_path / "conll", name, lines)
    task = TokenClassification()
    data = prepared(tmp_path / "conll", lambda: task)
    assert data.sizes == {"train": 40, "validation": 12, "test": 14}
    assert task.schema.scheme is not None and data.label_names == ["I-ORG", "O"]
    parts = prepared(tmp_path / "conll", TokenClassification, label=2)
    assert parts.label_names == [".", "CD", "NNP", "VBZ"]


def test_universal_dependencies(tmp_path):
    """Written tokens of several words (2-3) and empty nodes (4.1) are no words."""
    for split, count in SIZES.items():
        lines = []
        for index in range(count):
            fields = [
                ("1", f"w{index}", "NOUN"), ("2-3", "du", "_"), ("2", "de", "ADP"),
                ("3", "le", "DET"), ("4", "#", "SYM"), ("4.1", "vide", "VERB"), ("5", ".", "PUNCT"),
            ]  # fmt: skip
            lines += [f"# sent_id = {index}", "# text = du # ."]
            lines += [
                "\t".join([number, word, word, tag, *"______"]) for number, word, tag in fields
            ]
            lines.append("")
        write(tmp_path / "ud", f"fr_x-ud-{split}.conllu", lines)
    data = prepared(tmp_path / "ud", TokenClassification)
    assert data.label_names == ["ADP", "DET", "NOUN", "PUNCT", "SYM"]
    assert data.splits["test"]["text"][0][1:] == ["de", "le", "#", "."]
    assert any("28 lines of multiword tokens (2-3) or empty nodes" in note for note in data.notes)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["PER-B", "PER-I", "O", "LOC-B"], 2), (["PER_B", "PER_I", "O", "LOC_B"], 2),
        (["B-PER", "I-PER", "O", "B-LOC"], 2), (["I-PER", "B-PER", "O", "I-LOC"], 3),
        (["B-PER", "E-PER", "O", "S-LOC"], 2), (["PER-B", "PER-E", "O", "LOC-S"], 2),
        (["B-PER", "L-PER", "O", "U-LOC"], 2), (["B-my-type", "I-my-type", "O", "B-x_I"], 2),
    ],
)  # fmt: skip
def test_schemes_of_tags_mark_the_same_entities(tmp_path, tags, spans):
    import numpy as np

    lines = [f"{word}{index} {tag}" if word != "|" else "" for index in range(30)
             for word, tag in [*zip("abcd", tags, strict=True), ("|", "")]]  # fmt: skip
    write(tmp_path / "d", "train.conll", lines)
    task = TokenClassification()
    data = prepared(tmp_path / "d", lambda: task)
    scheme = task.schema.scheme
    assert scheme is not None and len(scheme.names) == 2
    ids = np.array(data.splits["test"]["label"][0])
    found = scheme.entities(ids, np.array([True, False, False, False]))
    assert len(found.first) == spans
    assert "entities" in task.schema.describe_outputs(data.label_names)


# --- several labels -------------------------------------------------------------------------------


def test_go_emotions(tmp_path):
    """No header; ids separated by commas, named in another file."""
    for split, count in SIZES.items():
        rows = [f'"{split} {index}\t{index % 3}{",3" if index % 2 else ""}\teew{index}'
                for index in range(count)]  # fmt: skip
        write(tmp_path / "emotions", f"{split}.tsv", rows)
    write(tmp_path / "emotions", "emotions.txt", ["joy", "anger", "fear", "love"])
    names = ["joy", "anger", "fear", "love"]
    data = prepared(
        tmp_path / "emotions", MultiLabel, columns=["text", "label", "id"], labels=names
    )
    assert data.label_names == names
    assert labels_by_text(data)['"test 5'] == [0, 0, 1, 1]
    assert labels_by_text(data)['"test 4'] == [0, 1, 0, 0]


@pytest.mark.parametrize("form", [str, "{}.0".format])
def test_jigsaw(tmp_path, form):
    """A column per class, texts of several lines, rows of -1 that were not scored."""
    classes = ["toxic", "obscene", "insult"]
    for split in ("train", "test"):
        rows = [
            f'{index:016x},"He said ""{split}""\n\n{index}, ok",'
            + ",".join(form(int(index % 4 == place)) for place in range(3))
            for index in range(SIZES[split])
        ]  # fmt: skip
        if split == "test":
            rows += [
                f"x{index},not scored {index}," + ",".join([form(-1)] * 3) for index in range(5)
            ]
        write(tmp_path / "jigsaw", f"{split}.csv", ["id,comment_text," + ",".join(classes), *rows])
    data = prepared(tmp_path / "jigsaw", MultiLabel, text="comment_text", label=classes)
    assert data.label_names == classes and data.sizes["test"] == 14
    found = labels_by_text(data)
    assert found['He said "test"\n\n1, ok'] == [0, 1, 0]
    assert found['He said "test"\n\n3, ok'] == [0, 0, 0]
    assert any("5 rows of test without a label" in note for note in data.notes)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("2", "'2', which is neither 0 nor 1"),
        ("", "no value: 0 or 1 is wanted"),
        ("0.83", "'0.83'"),
    ],
)
def test_columns_of_something_else(tmp_path, value, says):
    rows = [f"text {index},0,1" for index in range(20)] + [f"last,{value},0"]
    write(tmp_path / "d", "train.csv", ["text,toxic,insult", *rows])
    with pytest.raises(
        UserError, match=f"train row 21 has in the column of the class toxic {says}"
    ):
        prepared(tmp_path / "d", MultiLabel, label=["toxic", "insult"])
    with pytest.raises(UserError, match="has one label column"):
        prepared(tmp_path / "d", SequenceClassification, label=["toxic", "insult"])
    with pytest.raises(UserError, match=r"data\.label=rude: train has no such column"):
        prepared(tmp_path / "d", MultiLabel, label=["toxic", "rude"])


@pytest.mark.parametrize(
    "form",
    [
        lambda names: names, ",".join, ", ".join, lambda names: str(names), json.dumps,
        lambda names: [int(name in names) for name in "abc"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_forms_of_lists_of_labels(tmp_path, form, suffix):
    truth = {f"text {index}": [name for place, name in enumerate("abc") if index >> place & 1]
             for index in range(64)}  # fmt: skip
    rows = [{"text": text, "label": form(names)} for text, names in truth.items()]
    if suffix == "csv" and not isinstance(rows[0]["label"], str):
        rows = [row | {"label": json.dumps(row["label"])} for row in rows]
    if suffix == "jsonl":
        lines = [json.dumps(row) for row in rows]
    else:
        lines = ["text,label"] + [
            f'{row["text"]},"{row["label"].replace(chr(34), chr(34) * 2)}"' for row in rows
        ]
    write(tmp_path / "d", f"train.{suffix}", lines)
    is_indicator = rows[0]["label"] in ([0, 0, 0], "[0, 0, 0]")
    data = prepared(tmp_path / "d", MultiLabel, labels=list("abc") if is_indicator else None)
    assert data.label_names == ["a", "b", "c"]
    found = {
        text: [name for name, one in zip("abc", label, strict=True) if one]
        for split in data.splits
        for text, label in labels_by_text(data, split).items()
    }
    assert found == truth
    assert any("ones and zeros" in note for note in data.notes) == is_indicator


@pytest.mark.parametrize("separator", [";", "|"])
def test_a_separator_that_is_not_used_is_noted(tmp_path, separator):
    rows = [
        f"text {index},a{separator}b" if index % 2 else f"text {index},a" for index in range(40)
    ]
    write(tmp_path / "d", "train.csv", ["text,label", *rows])
    data = prepared(tmp_path / "d", MultiLabel)
    assert any(f"hold a '{separator}'" in note for note in data.notes)
    data = prepared(tmp_path / "d", MultiLabel, label_separator=separator)
    assert data.label_names == ["a", "b"]
