"""Tags of words: how they are read, learnt and measured."""

import random

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForTokenClassification

from distill.core.errors import UserError
from distill.core.hardware import Hardware
from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.prepare import prepare_data
from distill.data.sampler import BatchIndices
from distill.distributed.environment import ProcessRank
from distill.modeling.forward import forward_at_positions
from distill.modeling.loading import weights_hash
from distill.tasks.token_classification import TokenClassification
from distill.teacher.logits_cache import ConcatLogits, cached_logits
from distill.teacher.prepare import Teacher
from tests.factories import FILLER, GOOD, Given, collator, make_model

# Words of one piece, and of two or three.
NAMES = {"goodfilm": "PER", "lovelyplotcast": "PER", "badstory": "LOC", "dullthe": "LOC"}
PIECES = ["##film", "##plot", "##cast", "##story", "##the"]
TAGS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
SIZES = (("train", 60, 1), ("validation", 20, 2), ("test", 30, 3))


def tagged_sentences(count, seed, words=("tokens", "ner_tags")):
    """Fillers, and names of one or two words, whose type is that of the words."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(draw.randint(1, 3)):
            fill = draw.choices(FILLER, k=draw.randint(1, 3))
            name = draw.choice(list(NAMES))
            named = [name] + [draw.choice([n for n in NAMES if NAMES[n] == NAMES[name]])] * (
                draw.random() < 0.5
            )
            tokens += fill + named
            tags += ["O"] * len(fill) + [f"B-{NAMES[name]}"]
            tags += [f"I-{NAMES[name]}"] * (len(named) - 1)
        rows.append(dict(zip(words, (tokens, tags), strict=True)))
    return rows


def splits(**changes):
    return {split: tagged_sentences(count, seed) for split, count, seed in SIZES} | changes


@pytest.fixture(scope="session")
def pieces():
    """A tokenizer that cuts the names into two or three pieces."""
    from tests.factories import BAD, make_tokenizer

    return make_tokenizer(FILLER + GOOD + BAD + PIECES)


def encoded(task, data, tokenizer, tmp_path, split="test", length=64):
    rows = data.splits[split]
    return encode_split(
        rows, data.hashes[split], tokenizer, task.preprocessor, task.schema, length,
        tmp_path / "cache",
    )  # fmt: skip


# --- reading ------------------------------------------------------------------------------------


def test_every_unit_is_the_first_piece_of_its_word_with_that_words_tag(pieces, tmp_path):
    task = TokenClassification()
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    assert data.label_names == TAGS
    rows = encoded(task, data, pieces, tmp_path)
    several = 0
    for source, row in zip(data.splits["test"], rows, strict=True):
        tokens = pieces.convert_ids_to_tokens(row["input_ids"])
        units = [tokens[position] for position in row["positions"]]
        starts = [pieces.tokenize(word)[0] for word in source["text"]]
        assert units == starts
        assert [t for t in tokens if t[0] not in "[#"] == starts  # nothing else, nothing left out
        assert row["label"] == row["tags"] == source["label"]
        assert row["word"] == list(range(len(starts)))
        several += len(tokens) - 2 > len(starts)
    assert several > 20


def test_logits_are_those_of_the_first_pieces_whoever_stands_beside(pieces, tmp_path):
    task = TokenClassification()
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    model = AutoModelForTokenClassification.from_config(
        make_model(labels=TAGS, vocab_size=64, layers=2).config
    ).eval()
    with torch.no_grad():
        together = forward_at_positions(model, batches[list(range(30))]["student"]).logits
        start = 0
        for index, source in enumerate(data.splits["test"]):
            words = pieces(source["text"], is_split_into_words=True, return_tensors="pt")
            plain = model(
                input_ids=words["input_ids"], attention_mask=words["attention_mask"]
            ).logits[0]
            firsts = [words.word_ids().index(word) for word in range(len(source["text"]))]
            own = together[start : start + len(firsts)]
            torch.testing.assert_close(own, plain[firsts], rtol=1e-4, atol=1e-5)
            alone = forward_at_positions(model, batches[[index]]["student"]).logits
            torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-5)
            assert torch.equal(own.argmax(-1), alone.argmax(-1))
            start += len(firsts)
        assert start == len(together) == len(batches[list(range(30))]["labels"])


def test_stored_logits_are_those_of_each_sentence_alone(pieces, tmp_path):
    task = TokenClassification()
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    model = AutoModelForTokenClassification.from_config(
        make_model(labels=TAGS, vocab_size=64, layers=2).config
    ).eval()
    teacher = Teacher("t", model, pieces, weights_hash(model), 0.0, True)
    given = (
        teacher, batches, "content", task.preprocessor, 64,
        Hardware(torch.device("cpu"), "32-true"),
    )  # fmt: skip
    for reuses in (False, True):
        logits, _, reused = cached_logits(*given, tmp_path)
        assert reused == reuses
        assert isinstance(logits.values, np.memmap)
        assert logits.counts.tolist() == [len(tags) for tags in data.splits["test"]["label"]]
        joined = ConcatLogits([[logits]], stacked=False)
        with torch.no_grad():
            for index in (7, 0, 29):
                alone = forward_at_positions(model, batches[[index]]["student"]).logits.numpy()
                np.testing.assert_allclose(logits[[index]], alone, atol=1e-5)
                np.testing.assert_array_equal(joined[[index]], logits[[index]])


def test_a_sentence_without_any_piece_is_no_unit_and_no_trouble(pieces, tmp_path):
    rows = splits()
    rows["test"][0] = {"tokens": ["\u200b", "\u200b"], "ner_tags": ["B-PER", "O"]}
    task = TokenClassification()
    data = prepare_data(Given(rows), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    assert batches.position_counts[0] == 0
    model = AutoModelForTokenClassification.from_config(
        make_model(labels=TAGS, vocab_size=64, layers=2).config
    )
    batch = batches[[0]]
    logits = forward_at_positions(model, batch["student"]).logits
    assert logits.shape == (0, 5)
    loss = task.criterion.hard_label_loss(logits, batch["labels"])
    assert loss == 0
    perfect = JaggedArray(np.eye(5)[batches.labels.values], batches.position_counts)
    own, shared = task.evaluator.metric_inputs(perfect, batches)
    assert own[0].tolist() == [0, 0, 1]
    assert shared[0].tolist() == [1, 2]


def test_a_process_counts_a_sentence_without_any_piece_as_its_own(pieces, tmp_path):
    """It weighs nothing in training, yet its words count; one that stands in does not."""
    rows = splits()
    rows["test"][0] = {"tokens": ["\u200b", "\u200b"], "ner_tags": ["B-PER", "O"]}
    task = TokenClassification()
    data = prepare_data(Given(rows), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    for indices, own, part in (([5, 0], [0], 0), ([0, 5], [5], 2), ([5], [], 0), ([0, 0], [0], 0)):
        batch = batches[BatchIndices(indices, ProcessRank(1, 2))]
        assert batch["rows"].tolist() == own
        assert batch["batch_share"] == part


def test_words_beyond_the_length_have_no_unit_and_count_as_outside(pieces, tmp_path):
    task = TokenClassification()
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    whole, cut = (encoded(task, data, pieces, tmp_path, length=n) for n in (64, 8))
    assert sum(map(len, cut["word"])) < sum(map(len, whole["word"]))
    assert cut["tags"][:] == whole["tags"][:]
    batches = DistillationDataset(cut, collator(pieces))
    perfect = JaggedArray(np.eye(5)[batches.labels.values], batches.position_counts)
    judged = task.evaluator.metric_inputs(perfect, batches)
    scores = {name: metric(*judged) for name, metric in task.evaluator.metrics.items()}
    flat = [tag for tags in whole["tags"][:] for tag in tags]
    kept = [
        tag if i in words else TAGS.index("O")
        for tags, words in zip(cut["tags"][:], cut["word"][:], strict=True)
        for i, tag in enumerate(tags)
    ]
    assert scores["accuracy"] == pytest.approx(np.mean(np.array(flat) == kept))
    assert scores["recall"] < 1
    notes = task.preprocessor.notes({"train": whole, "test": cut}, 99)
    assert len(notes) == 1
    missing = sum(map(len, whole["word"])) - sum(map(len, cut["word"]))
    assert f"{missing} of the {len(flat)} words of test are not read" in notes[0]
    assert "count as predicted O" in notes[0]
    by_class = task.evaluator.per_class_scores(perfect, batches, data.label_names)
    assert list(by_class) == ["LOC", "PER"]
    assert sum(one["support"] for one in by_class.values()) == judged[1][:, 0].sum()


def test_white_space_and_signs_without_pieces(pieces, tmp_path):
    """Sets of characters tag the spaces too; a control character has no piece."""
    rows = splits()
    rows["test"][0] = {
        "tokens": ["goodfilm", " ", "dullthe", "\u200b", "the"],
        "ner_tags": ["B-PER", "I-PER", "I-PER", "B-LOC", "O"],
    }
    task = TokenClassification()
    data = prepare_data(Given(rows), task.schema, tmp_path)
    row = encoded(task, data, pieces, tmp_path)[0]
    assert row["tags"] == [1, 3, 0, 4]
    assert row["word"] == [0, 1, 3]
    assert row["label"] == [1, 3, 4]
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces)).select(
        [0]
    )
    perfect = JaggedArray(np.eye(5)[batches.labels.values], batches.position_counts)
    own, shared = task.evaluator.metric_inputs(perfect, batches)
    assert own.tolist() == [[1, 1, 3]]  # the one that is not read is missed
    assert shared.tolist() == [[2, 4]]


@pytest.mark.parametrize("prefix_space", [False, True])
def test_a_byte_level_tokenizer_reads_words_as_it_reads_text(prefix_space, tmp_path):
    from transformers import RobertaTokenizerFast

    letters = sorted(set("abcdefghijklmnopqrstuvwxyz") | {"Ġ"})
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "Ġt", "Ġth", "Ġthe"]
    tokenizer = RobertaTokenizerFast(
        vocab={word: index for index, word in enumerate(words)},
        merges=[("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e")],
        add_prefix_space=prefix_space,
    )
    rows = {"text": [["a", "the", "film", "the"]], "label": [[0, 1, 2, 3]]}
    found = TokenClassification().preprocessor.encode(tokenizer, rows, 32)
    assert found["input_ids"][0] == tokenizer("a the film the")["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(found["input_ids"][0])
    firsts = [tokens[position] for position in found["positions"][0]]
    assert firsts[1::2] == ["Ġthe", "Ġthe"]
    assert found["label"] == [[0, 1, 2, 3]]


# --- labels -------------------------------------------------------------------------------------


def test_ids_of_class_labels_and_names_for_integers(tmp_path):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    features = Features(
        {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    )
    as_ids = {
        split: [r | {"ner_tags": [names.index(tag) for tag in r["ner_tags"]]} for r in rows]
        for split, rows in splits().items()
    }
    hub = {split: Dataset.from_list(rows, features) for split, rows in as_ids.items()}
    for given, settings in ((hub, {}), (as_ids, {"labels": names})):
        task = TokenClassification()
        data = prepare_data(Given(given, **settings), task.schema, tmp_path)
        assert data.label_names == names
        assert task.evaluator.metric_name == "f1"
        assert data.splits["test"][3]["label"] == as_ids["test"][3]["ner_tags"]


def test_the_usual_names_of_columns_and_others(tmp_path):
    def renamed(*words):
        return {split: tagged_sentences(n, seed, words) for split, n, seed in SIZES}

    for words in (("tokens", "tags"), ("words", "labels")):
        data = prepare_data(Given(renamed(*words)), TokenClassification().schema, tmp_path)
        assert data.sizes["test"] == 30
    given = Given(renamed("w", "t"), text="w", label="t")
    assert prepare_data(given, TokenClassification().schema, tmp_path).sizes["test"] == 30


def test_the_metric_follows_the_tags(tmp_path):
    speech = {
        split: [
            r | {"ner_tags": [{"O": "X"}.get(tag, tag[2:]) for tag in r["ner_tags"]]} for r in rows
        ]
        for split, rows in splits().items()
    }
    for given, metric, measured in (
        (splits(), "f1", {"f1", "precision", "recall", "accuracy"}),
        (speech, "accuracy", {"accuracy", "macro_f1"}),
    ):
        task = TokenClassification()
        prepare_data(Given(given), task.schema, tmp_path)
        assert (task.evaluator.metric_name, set(task.evaluator.metrics)) == (metric, measured)
        assert next(iter(task.evaluator.metrics)) == metric
    task = TokenClassification(metric="macro_f1")
    prepare_data(Given(speech), task.schema, tmp_path)
    assert task.evaluator.metric_name == "macro_f1"


def broken(**changes):
    def change(split="test", row=4, **columns):
        rows = splits()
        for column, value in columns.items():
            rows[split][row][column] = value(rows[split][row][column])
        return rows

    return change(**changes)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (lambda: broken(ner_tags=lambda t: t[:-1]), r"row 5 \(.*\) has \d+ words and \d+ tags"),
        (lambda: broken(ner_tags=lambda t: ["B-ORG", *t[1:]]), "tag 'B-ORG', which train does not"),
        (lambda: broken(ner_tags=lambda t: [None, *t[1:]]), r"word 1 \(\w+\) has no tag"),
        (lambda: broken(ner_tags=lambda t: None), "has no tags"),
        (lambda: broken(tokens=lambda t: ["", *t[1:]]), "word 1 is empty"),
        (lambda: broken(tokens=lambda t: [None, *t[1:]]), "word 1 is empty"),
        (lambda: broken(tokens=lambda t: [], ner_tags=lambda t: []), r"1 texts of test are empty"),
        (lambda: broken(split="train", ner_tags=lambda t: ["X-PER", *t[1:]]), "'X-PER' stands"),
        (lambda: broken(split="train", ner_tags=lambda t: ["B", *t[1:]]), "'B' stands among"),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be_read(rows, says, tmp_path):
    with pytest.raises(UserError, match=says):
        prepare_data(Given(rows()), TokenClassification().schema, tmp_path)


def test_refuses_other_tasks_data_and_metrics(tmp_path):
    from tests.factories import sentences
    from tests.tasks.texts import tagged

    def refused(says, rows, **settings):
        metric = settings.pop("metric", None)
        with pytest.raises(UserError, match=says):
            prepare_data(Given(rows, **settings), TokenClassification(metric).schema, tmp_path)

    texts = {split: sentences(n, seed) for split, n, seed in SIZES}
    refused("no such column, it has text, label .*reads sentences as lists", texts)
    refused("holds string in train, not lists of words", texts, text="text")
    refused("holds string in train", {s: tagged(n, i) for s, n, i in SIZES}, text="text")
    single = {s: [r | {"ner_tags": "O"} for r in rows] for s, rows in splits().items()}
    refused("the labels of train are no lists", single)
    nested = {
        s: [r | {"ner_tags": [{"tag": tag} for tag in r["ner_tags"]]} for r in rows]
        for s, rows in splits().items()
    }
    refused("the labels of train are no lists", nested)
    nested = {
        s: [r | {"tokens": [{"word": word} for word in r["tokens"]]} for r in rows]
        for s, rows in splits().items()
    }
    refused("holds lists of records in train, not lists of words", nested)
    one = {s: [r | {"ner_tags": ["O"] * len(r["tokens"])} for r in x] for s, x in splits().items()}
    refused("one tag only", one)
    refused("these tags mark entities .*choose f1 or accuracy", splits(), metric="macro_f1")
    speech = {
        s: [r | {"ner_tags": [t[-1] for t in r["ner_tags"]]} for r in x]
        for s, x in splits().items()
    }
    refused("task.metric=f1 counts entities, and these tags mark none", speech, metric="f1")
    with pytest.raises(UserError, match="choose one of f1, accuracy, macro_f1"):
        TokenClassification("precision")


def test_tags_as_they_are_where_asked_for(tmp_path):
    rows = broken(split="train", ner_tags=lambda t: ["X-PER", *t[1:]])
    task = TokenClassification(metric="accuracy")
    prepare_data(Given(rows), task.schema, tmp_path)
    assert set(task.evaluator.metrics) == {"accuracy", "macro_f1"}


# --- metrics ------------------------------------------------------------------------------------


def guesses(batches, classes, seed=0, right=0.7):
    """Logits that are right so often."""
    draw = np.random.default_rng(seed)
    labels = batches.labels.values
    said = np.where(
        draw.random(len(labels)) < right, labels, draw.integers(0, classes, len(labels))
    )
    return JaggedArray(
        np.eye(classes)[said] + draw.random((len(labels), classes)) / 4, batches.position_counts
    )


def names_of(logits, batches, names):
    said = [[names[i] for i in rows.argmax(-1)] for rows in logits.split()]
    return said, [[names[i] for i in tags] for tags in batches.student["tags"][:]]


def test_entities_are_counted_as_seqeval_counts_them(pieces, tmp_path):
    seqeval = pytest.importorskip("seqeval.metrics")
    task = TokenClassification(per_class=True)
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path, "train"), collator(pieces))
    for seed in range(5):
        logits = guesses(batches, 5, seed)
        said, there = names_of(logits, batches, TAGS)
        judged = task.evaluator.metric_inputs(logits, batches)
        scores = {name: metric(*judged) for name, metric in task.evaluator.metrics.items()}
        assert scores == pytest.approx(
            {
                "f1": seqeval.f1_score(there, said),
                "precision": seqeval.precision_score(there, said),
                "recall": seqeval.recall_score(there, said),
                "accuracy": seqeval.accuracy_score(there, said),
            }
        )
        assert 0.1 < scores["f1"] < 0.9
        report = seqeval.classification_report(there, said, output_dict=True)
        for name, one in task.evaluator.per_class_scores(logits, batches, TAGS).items():
            assert one["f1"] == pytest.approx(report[name]["f1-score"])
            assert one["precision"] == pytest.approx(report[name]["precision"])
            assert one["support"] == report[name]["support"]


def test_published_counts_give_the_published_scores():
    """What the CoNLL-2000 shared task's page shows of `conlleval`'s output."""
    task = TokenClassification()
    task.schema.set_label_names(TAGS)
    own, shared = np.array([[371, 539, 838]]), np.array([[459, 961]])
    scores = {name: round(100 * m(own, shared), 2) for name, m in task.evaluator.metrics.items()}
    assert scores == {"f1": 74.35, "precision": 68.83, "recall": 80.83, "accuracy": 87.2}


def test_classes_of_words_against_scikit_learn(pieces, tmp_path):
    speech = {
        split: [r | {"ner_tags": [tag[-1] for tag in r["ner_tags"]]} for r in rows]
        for split, rows in splits().items()
    }
    task = TokenClassification(per_class=True)
    data = prepare_data(Given(speech), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    logits = guesses(batches, len(data.label_names))
    labels, said = batches.labels.values, logits.values.argmax(-1)
    judged = task.evaluator.metric_inputs(logits, batches)
    scores = {name: metric(*judged) for name, metric in task.evaluator.metrics.items()}
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    each = f1_score(labels, said, average=None)
    found = task.evaluator.per_class_scores(logits, batches, data.label_names)
    assert [one["f1"] for one in found.values()] == pytest.approx(each)


def test_fidelity_and_calibration_are_over_words(pieces, tmp_path):
    task = TokenClassification()
    data = prepare_data(Given(splits()), task.schema, tmp_path)
    batches = DistillationDataset(encoded(task, data, pieces, tmp_path), collator(pieces))
    logits, other = guesses(batches, 5, 1), guesses(batches, 5, 2)
    found = task.evaluator.fidelity(logits, other)
    same = logits.values.argmax(-1) == other.values.argmax(-1)
    assert found["agreement"] == pytest.approx(same.mean())
    assert found["kl_divergence"] > 0
    assert task.evaluator.fidelity(logits, logits) == {"agreement": 1.0, "kl_divergence": 0.0}
    p = np.exp(logits.values) / np.exp(logits.values).sum(-1, keepdims=True)
    nll = -np.log(p[np.arange(len(p)), batches.labels.values]).mean()
    measures = task.evaluator.calibration(logits, batches.labels)
    assert measures["negative_log_likelihood"] == pytest.approx(nll)


def test_entities_that_no_tag_begins_are_counted_and_told(pieces, tmp_path):
    rows = splits()
    rows["test"][0]["ner_tags"] = [tag.replace("B-", "I-") for tag in rows["test"][0]["ner_tags"]]
    task = TokenClassification()
    data = prepare_data(Given(rows), task.schema, tmp_path)
    both = {split: encoded(task, data, pieces, tmp_path, split) for split in ("train", "test")}
    (note,) = task.preprocessor.notes(both, 99)
    assert "entities of test begin without B-" in note
