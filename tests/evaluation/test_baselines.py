"""Baselines of every task, measured like models."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score, log_loss

from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.prepare import prepare_data
from distill.evaluation.baselines import (
    RUNTIME,
    BaselineInputs,
    measure_baselines,
)
from distill.evaluation.evaluator import (
    EvaluatedModel,
    MeasuredBaselines,
    SeedLogits,
    compare_models,
)
from distill.reporting.schema import Role
from distill.tasks.base import Task
from distill.tasks.causal_lm import CausalLM
from distill.tasks.image_classification import ImageClassification
from distill.tasks.masked_lm import MaskedLM
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import Given, sentences
from tests.tasks.questions import asked
from tests.tasks.test_parts import MAX_LENGTH, ROWS, SIZES, TOKENIZER
from tests.tasks.test_token_classification import tagged_sentences
from tests.tasks.texts import rated, tagged

ROLES = [Role.MAJORITY, Role.WORDS]
# The one of images has its own tests: tests/baselines/test_pixels.py.
OF_TEXTS = [kind for kind in ROWS if kind is not ImageClassification]
HAS_WORDS = {SequenceClassification, Regression, MultiLabel, TokenClassification}


def inputs_of(task: Task, splits: dict, cache, max_length=MAX_LENGTH) -> BaselineInputs:
    data = prepare_data(Given(splits), task.schema, cache)
    encoder = task.encoder(data, cache)
    rows = {split: encoder.encode(split, TOKENIZER, max_length) for split in data.splits}
    collator = encoder.collator(
        TOKENIZER, task.preprocessor.batch_transform(TOKENIZER, rows["train"])
    )
    examples = {
        split: DistillationDataset(rows[split], collator, source=data.splits[split])
        for split in ("train", "validation", "test")
    }
    outputs = len(TOKENIZER) if isinstance(task, MaskedLM | CausalLM) else len(data.label_names)
    return BaselineInputs(data, **examples, outputs=outputs)


def measured(task: Task, rows, cache, sizes=SIZES, **options) -> MeasuredBaselines:
    splits = {split: rows(count, seed) for split, count, seed in sizes}
    inputs = inputs_of(task, splits, cache, **options)
    return measure_baselines(ROLES, task, inputs, cache)


@pytest.mark.parametrize("kind", OF_TEXTS, ids=lambda kind: kind.__name__)
def test_every_task_has_baselines_with_all_its_metrics(kind, tmp_path):
    task = kind()
    result = measured(task, ROWS[kind], tmp_path)
    expected = ROLES if kind in HAS_WORDS else [Role.MAJORITY]
    assert [model.role for model in result.models] == expected == list(result.logits)
    for model in result.models:
        assert list(model.quality) == list(task.evaluator.metrics)
        assert all(np.isfinite(metric.value) for metric in model.quality.values())
    assert len(result.notes) == 2 - len(expected)
    majority, *words = result.models
    assert majority.size is majority.speed is None
    for model in words:
        assert 0 < model.size.parameters < 4 * model.size.parameters < model.size.bytes
        assert model.size.multiply_accumulates > 0
        assert 0 < model.speed.latency_ms.p50 <= model.speed.latency_ms.p95
        assert model.speed.cpu_ms.p50 > 0
        assert model.speed.runtime == RUNTIME.format("the text")


def test_majority_is_scikit_learns_dummy(tmp_path):
    rows = {
        "train": [
            *sentences(20, 1),
            *({"text": f"fine {i}", "label": "positive"} for i in "abcde"),
        ],
        "validation": sentences(10, 2),
        "test": sentences(30, 3)[:-5],
    }
    task = SequenceClassification()
    inputs = inputs_of(task, rows, tmp_path)
    result = measure_baselines(["majority"], task, inputs, tmp_path)
    labels, test = inputs.train.label_values, inputs.test.label_values
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(labels), 1)), labels)
    (model,) = result.models
    assert model.name == "always positive"
    assert model.quality["accuracy"].value == dummy.score(np.zeros((len(test), 1)), test)
    share = 16 / 27  # 15 of 25 are positive, smoothed by one of each class
    expected = log_loss(test, np.tile([1 - share, share], (len(test), 1)))
    assert model.calibration.negative_log_likelihood == pytest.approx(expected)


def test_majority_of_numbers_is_their_mean(tmp_path):
    model = measured(Regression(), rated, tmp_path).models[0]
    train, test = ([row["label"] for row in rated(*size[1:])] for size in (SIZES[0], SIZES[2]))
    expected = np.mean((np.array(test) - np.mean(train)) ** 2)
    assert model.quality["mean_squared_error"].value == pytest.approx(expected)
    assert model.quality["pearson"].value == model.quality["spearman"].value == 0
    assert model.calibration is None


@pytest.mark.parametrize("metric", ["micro_f1", "exact_match"])
def test_majority_of_label_sets_is_the_best_that_is_always_the_same(tmp_path, metric):
    task = MultiLabel(metric=metric)
    inputs = inputs_of(task, {s: tagged(n, seed) for s, n, seed in SIZES}, tmp_path)
    result = measure_baselines(["majority"], task, inputs, tmp_path)
    decisions = result.logits["majority"] > 0
    assert (decisions == decisions[0]).all()
    labels = inputs.validation.label_values
    chosen = np.tile(decisions[0], (len(labels), 1))

    def score(predicted) -> float:
        if metric == "exact_match":
            return float((predicted == labels).all(axis=1).mean())
        return f1_score(labels, predicted, average="micro", zero_division=0)

    order = np.argsort(-inputs.train.label_values.sum(axis=0), kind="stable")
    others = [np.isin(np.arange(3), order[:count]) for count in range(4)]
    assert score(chosen) >= max(score(np.tile(other, (len(labels), 1))) for other in others)
    assert result.models[0].calibration is result.models[0].fidelity is None


def test_majority_of_tags_is_no_entity(tmp_path):
    result = measured(TokenClassification(), tagged_sentences, tmp_path)
    majority, words = result.models
    assert majority.name == "always O"
    assert majority.quality["f1"].value == 0
    assert majority.quality["accuracy"].value > 0.5
    assert words.quality["f1"].value > 0.5
    assert isinstance(result.logits["words"], JaggedArray)


def test_words_beyond_the_length_are_read_by_no_baseline_of_tags(tmp_path):
    short = measured(TokenClassification(), tagged_sentences, tmp_path, max_length=6)
    whole = measured(TokenClassification(), tagged_sentences, tmp_path)
    counts = [len(result.logits["words"].values) for result in (short, whole)]
    assert counts[0] < counts[1]
    assert not short.reused  # the strength is chosen on the words that are read
    assert short.models[1].quality["f1"].value < whole.models[1].quality["f1"].value


def test_no_answer_scores_the_share_of_questions_without_one(tmp_path):
    rows = asked(30, 3, unanswerable=True)
    result = measured(QuestionAnswering(), ROWS[QuestionAnswering], tmp_path)
    share = np.mean([not row["answers"]["text"] for row in rows])
    for metric in result.models[0].quality.values():
        assert metric.value == pytest.approx(share)
    assert "linear model on words" in result.notes[0]


def test_questions_that_all_have_an_answer_have_no_baseline(tmp_path):
    result = measured(QuestionAnswering(), asked, tmp_path)
    assert not result.models
    assert len(result.notes) == 2


def test_token_frequencies_have_the_perplexity_of_a_unigram_model(tmp_path):
    task = MaskedLM()
    inputs = inputs_of(task, {s: ROWS[MaskedLM](n, seed) for s, n, seed in SIZES}, tmp_path)
    (model,) = measure_baselines(["majority"], task, inputs, tmp_path).models
    counts = Counter(inputs.train.label_values.tolist())
    total = sum(counts.values()) + len(TOKENIZER)
    labels = inputs.test.label_values.tolist()
    surprisal = [-np.log((counts[label] + 1) / total) for label in labels]
    assert model.quality["perplexity"].value == pytest.approx(np.exp(np.mean(surprisal)))
    commonest = max(range(len(TOKENIZER)), key=lambda token: counts[token])
    expected = np.mean([label == commonest for label in labels])
    assert model.quality["accuracy"].value == pytest.approx(expected)
    assert model.calibration.negative_log_likelihood == pytest.approx(np.mean(surprisal))


def test_words_learn_from_pairs_whether_they_agree(tmp_path):
    def pairs(count, seed):
        rows, others = sentences(2 * count, seed), sentences(count, seed + 100)
        return [
            {
                "text": row["text"],
                "text_pair": row["text"] if i % 2 else others[i]["text"],
                "label": ["other", "same"][i % 2],
            }
            for i, row in enumerate(rows[:count])
        ]

    sizes = (("train", 100, 1), ("validation", 40, 2), ("test", 60, 3))
    result = measured(SequenceClassification(), pairs, tmp_path, sizes)
    assert result.models[1].quality["accuracy"].value > 0.95


def test_the_fitted_model_is_kept_and_gives_the_same(tmp_path):
    first, second = (
        measured(SequenceClassification(), sentences, tmp_path / "cache") for _ in range(2)
    )
    other = measured(SequenceClassification(), sentences, tmp_path / "other")
    assert (first.reused, second.reused, other.reused) == (False, True, False)
    np.testing.assert_array_equal(first.logits["words"], second.logits["words"])
    np.testing.assert_array_equal(first.logits["words"], other.logits["words"])
    for one, two in zip(first.models, second.models, strict=True):
        assert one.name == two.name
        assert one.size == two.size or one.size.to_dict() == two.size.to_dict()


def test_another_metric_or_other_data_are_fitted_anew(tmp_path):
    assert not measured(SequenceClassification(), sentences, tmp_path).reused
    assert not measured(SequenceClassification("macro_f1"), sentences, tmp_path).reused
    sizes = (("train", 38, 1), *SIZES[1:])
    assert not measured(SequenceClassification(), sentences, tmp_path, sizes).reused
    assert measured(SequenceClassification(), sentences, tmp_path).reused


def test_a_task_without_baselines_has_notes_alone(tmp_path):
    class Bare(SequenceClassification):
        def __init__(self):
            super().__init__()
            self.baselines = {}

    result = measured(Bare(), sentences, tmp_path)
    assert not result.models
    assert not result.logits
    assert [note.split(" for these")[0] for note in result.notes] == [
        "No baseline: task=sequence_classification has no answer that is always the same",
        "No baseline: task=sequence_classification has no linear model on words",
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_hardly_any_data(tmp_path, count):
    sizes = tuple((split, count, seed) for split, _, seed in SIZES)
    for model in measured(SequenceClassification(), sentences, tmp_path, sizes).models:
        assert 0 <= model.quality["accuracy"].value <= 1
        assert np.isfinite(model.calibration.negative_log_likelihood)


def test_one_class_only_in_train(tmp_path):
    rows = {split: sentences(count, seed) for split, count, seed in SIZES}
    rows["train"] = [row for row in rows["train"] if row["label"] == "positive"]
    task = SequenceClassification()
    result = measure_baselines(ROLES, task, inputs_of(task, rows, tmp_path), tmp_path)
    for model in result.models:
        assert model.quality["accuracy"].value == 0.5
        assert np.isfinite(model.calibration.negative_log_likelihood)
    assert result.models[1].size.parameters == 1  # the intercept of the other class


def test_texts_without_a_word_in_common(tmp_path):
    def unlike(count, seed):
        return [
            {"text": f"word{seed}{i}" if i else "。", "label": "ab"[i % 2]} for i in range(count)
        ]

    model = measured(SequenceClassification(), unlike, tmp_path).models[1]
    assert np.isfinite(model.quality["accuracy"].value)


def test_the_student_is_compared_on_the_same_examples(tmp_path):
    task = SequenceClassification()
    inputs = inputs_of(task, {s: sentences(n, seed) for s, n, seed in SIZES}, tmp_path)
    result = measure_baselines(ROLES, task, inputs, tmp_path)
    labels = inputs.test.label_values
    wrong = np.eye(2)[1 - labels]
    student = EvaluatedModel("student", "wrong", torch.nn.Identity(), inputs.test, wrong)
    logits = {"words": [result.logits["words"]]}
    (report,) = [replace(result.models[0], role="student")]
    paired = compare_models([report], [student], task, compared_only=logits).difference_to_words
    value = result.models[1].quality["accuracy"].value
    assert value > 0.7
    assert paired.value == pytest.approx(-value)
    assert paired.p_value < 0.001
    assert paired.low < -value < paired.high
    same = replace(student, logits=result.logits["words"])
    assert (
        compare_models([report], [same], task, compared_only=logits).difference_to_words.p_value
        == 1
    )
    assert compare_models([report], [student], task).difference_to_words is None


def test_over_several_seeds_the_difference_counts_seeds_too(tmp_path):
    task = SequenceClassification()
    inputs = inputs_of(task, {s: sentences(n, seed) for s, n, seed in SIZES}, tmp_path)
    result = measure_baselines(ROLES, task, inputs, tmp_path)
    labels = inputs.test.label_values
    draw = np.random.default_rng(0)
    seeds = [np.eye(2)[np.where(draw.random(len(labels)) < 0.1, 1 - labels, labels)] for _ in "abc"]
    student = EvaluatedModel("student", "half", torch.nn.Identity(), inputs.test, seeds[0])
    others = [SeedLogits(i, {"student": one}) for i, one in enumerate(seeds[1:], 1)]
    paired = compare_models(
        [replace(result.models[0], role="student")], [student], task, others,
        {"words": [result.logits["words"]]},
    ).difference_to_words  # fmt: skip
    right = [float((one.argmax(axis=1) == labels).mean()) for one in seeds]
    expected = np.mean(right) - result.models[1].quality["accuracy"].value
    assert paired.value == pytest.approx(expected)
    assert paired.seeds == 3
    assert set(paired.covers) == {"seeds", "examples"}
