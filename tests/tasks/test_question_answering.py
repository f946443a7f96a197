"""Windows, labels, losses and answers of question answering."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import log_softmax
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerFast

from distill.core.errors import UserError
from distill.core.hardware import Hardware
from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.labels import IGNORED_LABEL
from distill.data.prepare import prepare_data
from distill.data.sampler import BatchIndices
from distill.distributed.environment import ProcessRank
from distill.modeling.ensemble import Ensemble
from distill.modeling.features import ModelOutputs, forward_with_features
from distill.modeling.forward import forward_at_positions
from distill.objectives.functional import divergences
from distill.objectives.functional.soft_targets import soft_cross_entropy, soft_target_kl
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.question_answering.criterion import MISSING_LOGIT
from distill.teacher.ensemble import combine_logits
from distill.teacher.logits_cache import ConcatLogits, cached_logits
from distill.teacher.prepare import Teacher
from distill.training.inference import predict_logits
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import BAD, FILLER, GOOD, Given, collator, make_model, make_tokenizer
from tests.tasks.questions import asked

CPU = Hardware(torch.device("cpu"), "32-true")


def row(question, context, *answers):
    """In the flat form; each answer where it first stands."""
    return {
        "question": question,
        "context": context,
        "answers": {"text": list(answers), "answer_start": [context.find(a) for a in answers]},
    }


def splits(rows, **changes):
    return {"train": rows, "validation": rows, "test": rows} | changes


def prepared(rows, tmp_path, task=None, **settings):
    given = rows if isinstance(rows, dict) else splits(rows)
    return prepare_data(Given(given, **settings), (task or QuestionAnswering()).schema, tmp_path)


def windows(rows, tokenizer, tmp_path, max_length=24, **settings):
    """The test split of these rows as batches, and the task."""
    task = QuestionAnswering(**settings)
    data = prepared(rows, tmp_path, task)
    encoded = encode_split(
        data.splits["test"], data.hashes["test"], tokenizer, task.preprocessor, task.schema,
        max_length, tmp_path,
    )  # fmt: skip
    return task, DistillationDataset(encoded, collator(tokenizer), source=data.splits["test"])


def perfect(batches: DistillationDataset) -> JaggedArray:
    """Logits of a model that knows every window's label."""
    units = batches.position_counts
    values = np.zeros((units.sum(), 2), dtype=np.float32)
    logits = JaggedArray(values, units)
    for index, (start, end) in enumerate(batches.labels.values.reshape(-1, 2)):
        values[logits.starts[index] + start, 0] = values[logits.starts[index] + end, 1] = 9
    return logits


@pytest.fixture(scope="module")
def pieces():
    """Words fall into pieces, Korean into syllables, and some words are unknown."""
    syllables = ["한", "##국", "##어", "는", "##다", "언", "1", "##9", "##7", "##3"]
    return make_tokenizer([*FILLER, *GOOD, *BAD, "oil", "##s", "##ing", ",", ".", "'", *syllables])


@pytest.fixture(scope="module")
def bytes_of():
    """Byte-level, as RoBERTa's: several tokens may share one character."""
    vocabulary = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevel()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>",
        sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


# --- windows ------------------------------------------------------------------------------------

LONG = " ".join(f"{FILLER[i % 9]} {GOOD[i % 6]} {BAD[i % 6]}," for i in range(20))
TEXTS = [
    row("was the film", "the film was good, and a story", "good"),
    row("was the film", "the film was good, and a story", "the film was good", "good"),
    row("was the plot", "the plot 'warm' was", "'warm'"),
    row("was the plot", "the plot was oils oiling oil .", "oils oiling"),
    row("한국어", "는 한국어 언다 1973, 는다", "1973"),
    row("한국어", "한국어는 언어다 (1973)", "언어"),
    row("was the cast", "  the cast  was\n\nfine", "the cast  was\n\nfine"),
    row("was the cast", "unheard-of words, the naïve ones", "naïve ones"),
    row("was it", LONG, "weak"),
    row("was it", LONG, LONG[LONG.rindex("great") : -1]),
    row("was it", LONG, LONG[:12]),
]


@pytest.mark.parametrize("kind", ["pieces", "bytes_of"])
@pytest.mark.parametrize("max_length", [24, 40, 200])
def test_perfect_logits_give_the_answer(kind, max_length, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    rows = [r for r in TEXTS if kind == "pieces" or len(r["context"]) < 40]
    task, batches = windows(rows, tokenizer, tmp_path, max_length, max_answer_length=80)
    said = task.evaluator.predict_answers(perfect(batches), batches)
    assert list(said) == list(range(len(rows)))
    for index, text in said.items():
        expected = batches.source[index]["label"]["text"][0]
        longest = len(tokenizer.tokenize(expected))
        shared = task.preprocessor._overlap(
            max_length - tokenizer.num_special_tokens_to_add(True), max_length
        )
        if longest <= shared + 1:
            # Where a piece holds more than the answer (언어다), the whole piece is the answer.
            assert text == expected or (kind == "pieces" and expected in text), (text, expected)


def test_answers_that_stand_at_tokens_come_back_exactly(pieces, tmp_path):
    rows = [r for r in TEXTS if "naïve" not in r["context"] and "언어" not in r["answers"]["text"]]
    task, batches = windows(rows, pieces, tmp_path, 32)
    (scores,) = task.evaluator.metric_inputs(perfect(batches), batches)
    said = task.evaluator.predict_answers(perfect(batches), batches)
    assert [said[i] for i in said] == [label["text"][0] for label in batches.source["label"]]
    assert (scores == 1).all()


@pytest.mark.parametrize("stride", [None, 0, 1, 5])
def test_windows_cover_every_token_and_share_so_many(stride, pieces, tmp_path):
    _, batches = windows([row("was it", LONG, "weak")] * 12, pieces, tmp_path, 24, stride=stride)
    one = [w for w in batches.student if w["example"] == 0]
    assert len(one) > 3
    assert all(len(window["input_ids"]) <= 24 for window in one)
    whole = pieces(LONG, add_special_tokens=False, return_offsets_mapping=True)
    covered: list[int] = []
    for number, window in enumerate(one):
        ids = [window["input_ids"][at] for at in window["positions"][1:]]
        tokens = [
            whole["offset_mapping"].index((s, e))
            for s, e in zip(window["starts"][1:], window["ends"][1:], strict=True)
        ]
        assert ids == [whole["input_ids"][t] for t in tokens]
        if number:
            shared = len(set(covered) & set(tokens))
            assert shared == ((24 - 3) // 4 if stride is None else stride)
        covered += tokens
        assert window["positions"][0] == 0 and window["input_ids"][0] == pieces.cls_token_id
        assert pieces.sep_token_id not in ids
    assert sorted(set(covered)) == list(range(len(whole["input_ids"])))


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_every_answer_no_longer_than_what_windows_share_is_in_one(length, pieces, tmp_path):
    words = LONG.replace(",", "").split()
    starts = np.cumsum([0, *(len(w) + 1 for w in words)])
    rows = [
        {
            "question": "was it",
            "context": " ".join(words),
            "answers": {
                "text": [" ".join(words[i : i + length])],
                "answer_start": [int(starts[i])],
            },
        }
        for i in range(len(words) - length)
    ]
    task, batches = windows(rows, pieces, tmp_path, 24)
    said = task.evaluator.predict_answers(perfect(batches), batches)
    assert [said[i] for i in said] == [label["text"][0] for label in batches.source["label"]]
    labels = batches.labels.values.reshape(-1, 2)
    assert ((labels > 0).all(axis=1) | (labels == 0).all(axis=1)).all()
    assert (labels == 0).any()  # windows without the answer say so


def test_a_question_without_an_answer_and_one_without_a_label(pieces, tmp_path):
    task = QuestionAnswering()
    rows = {
        "text": ["was it"] * 3,
        "text_pair": ["the film was good"] * 3,
        "label": [
            {"text": [], "answer_start": []},
            task.schema.missing_label([]),
            {"text": ["good"], "answer_start": [13]},
        ],
        "row": [5, 6, 7],
    }
    encoded = task.preprocessor.encode(pieces, rows, 24)
    assert encoded["label"] == [[0, 0], [IGNORED_LABEL] * 2, [4, 4]]
    assert encoded["example"] == [5, 6, 7]


def test_a_long_question_is_cut_to_half_of_the_room(pieces, tmp_path):
    long = " ".join(["was", "oiling"] * 12)
    task, batches = windows([row(long, "the film was good", "good")] * 3, pieces, tmp_path, 15)
    window = batches.student[0]
    ids = window["input_ids"]
    assert ids.index(pieces.sep_token_id) - 1 <= 6
    assert all(len(w["input_ids"]) <= 15 and w["cut"] for w in batches.student)
    notes = task.preprocessor.notes({"train": batches.student}, 15)
    assert notes == [
        "3 of 3 training questions take more than half of data.max_length=15 tokens: what goes "
        "beyond is cut."
    ]
    _, batches = windows([row("was it", LONG, "weak")] * 3, pieces, tmp_path, 24)
    assert (
        "do not fit into data.max_length=24 tokens"
        in task.preprocessor.notes({"train": batches.student}, 24)[0]
    )


@pytest.mark.parametrize(
    ("settings", "max_length", "says"),
    [
        ({"stride": 11}, 24, r"task\.stride=11: .*can share 10 tokens at most"),
        ({}, 4, r"data\.max_length=4 leaves no room"),
        ({}, 3, r"data\.max_length=3 leaves no room"),
    ],
)
def test_windows_without_room(settings, max_length, says, pieces, tmp_path):
    with pytest.raises(UserError, match=says):
        windows(TEXTS, pieces, tmp_path, max_length, **settings)
    if "stride" in settings:  # one less is room enough
        windows(TEXTS, pieces, tmp_path, max_length, stride=settings["stride"] - 1)


def test_the_largest_stride_works_beside_the_longest_question(pieces, tmp_path):
    long = " ".join(["was"] * 40)
    _, batches = windows([row(long, LONG, "weak")] * 3, pieces, tmp_path, 24, stride=10)
    assert len(batches) > 100


def test_a_stride_is_part_of_the_key():
    key = QuestionAnswering().preprocessor.cache_key
    assert key != QuestionAnswering(stride=3).preprocessor.cache_key
    assert key == QuestionAnswering(max_answer_length=3).preprocessor.cache_key


@pytest.mark.parametrize(
    "setting", [{"stride": 3}, {"max_answer_length": 3}, {"no_answer_threshold": 1.0}]
)
def test_what_a_training_came_to_is_kept_by_windows_and_by_how_answers_are_found(setting):
    """The windows are what is learned from, the answers what the best checkpoint goes by."""
    settings = QuestionAnswering().training_settings
    assert settings != QuestionAnswering(**setting).training_settings
    assert settings == QuestionAnswering(metric="exact_match").training_settings


# --- labels -------------------------------------------------------------------------------------


def labels_of(data, split="test"):
    return [(row["text"], row["label"]) for row in data.splits[split]]


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["good", "was good"], "answer_start": [13, 9]},
        [{"text": "good", "answer_start": 13}, {"text": "was good", "answer_start": 9}],
    ],
)
def test_both_forms_of_answers(answers, tmp_path):
    rows = [{"question": "was it", "context": "the film was good", "answers": answers}] * 20
    data = prepared(rows, tmp_path)
    assert data.label_names == ["start", "end"]
    assert labels_of(data)[0] == (
        "was it", {"text": ["good", "was good"], "answer_start": [13, 9]}
    )  # fmt: skip
    assert not any("do not stand" in note for note in data.notes)


@pytest.mark.parametrize(
    ("said", "stands"), [(0, 4), (9, 4), (13, 17), (40, 17), (-1, 4), (17, 17)]
)
def test_an_answer_is_moved_to_the_nearest_place_where_it_stands(said, stands, tmp_path):
    one = {
        "question": "was it",
        "context": "was good and was good",
        "answers": {"text": ["good"], "answer_start": [said]},
    }
    data = prepared([one] * 20, tmp_path)
    assert labels_of(data)[0][1] == {"text": ["good"], "answer_start": [stands]}
    notes = [note for note in data.notes if "do not stand" in note]
    assert len(notes) == (0 if said == stands else 3)
    if notes:
        assert notes[0].startswith("The answers of 20 of 20 questions of train do not stand")


def test_impossible_questions_have_no_answers(tmp_path):
    """KLUE's have plausible ones in the same column."""
    rows = [
        row("was it", f"the film was good {i}", "good") | {"is_impossible": i % 2 == 0}
        for i in range(20)
    ]
    data = prepared(rows, tmp_path)
    assert {len(label["text"]) for _, label in labels_of(data)} == {0, 1}
    plain = prepared([{k: v for k, v in r.items() if k != "is_impossible"} for r in rows], tmp_path)
    assert {len(label["text"]) for _, label in labels_of(plain)} == {1}
    assert data.fingerprint != plain.fingerprint


def test_the_fingerprint_sees_the_answers(tmp_path):
    rows = asked(40, 1)
    other = [dict(r) for r in rows]
    other[7]["answers"] = {"text": ["the"], "answer_start": [0]}
    other[7]["context"] = rows[7]["context"]
    first, second = (prepared(splits(rows, test=one), tmp_path) for one in (rows, other))
    assert first.fingerprint != second.fingerprint
    assert first.hashes["train"] == second.hashes["train"]


GOOD_ROW = row("was it", "the film was good", "good")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"answers": {"text": ["bad"], "answer_start": [0]}},
            r"test row 2 \('was it'\): its context does not contain the answer 'bad'",
        ),
        (
            {"answers": {"text": [" "], "answer_start": [3]}},
            r"test row 2 \('was it'\) has an empty answer",
        ),
        (
            {"answers": {"text": ["good", "film"], "answer_start": [13]}},
            r"test row 2 has no answers in the column of data\.label: they are \{text",
        ),
        ({"answers": None}, "test row 2 has no answers"),
        ({"question": "  "}, "1 texts of test are empty"),
        ({"context": ""}, "1 texts of test are empty"),
    ],
)
def test_rows_that_are_refused(change, says, tmp_path):
    test = [GOOD_ROW, GOOD_ROW | change, GOOD_ROW]
    with pytest.raises(UserError, match=says):
        prepared(splits([GOOD_ROW] * 20, test=test), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answers": "good"}, "has no answers in the column"),
        ({"answers": {"text": [], "answer_start": []}}, "no question of test has an answer"),
        ({"answers": {"text": "good", "answer_start": 13}}, "has no answers in the column"),
    ],
)
def test_splits_that_are_refused(change, says, tmp_path):
    test = [GOOD_ROW | change] * 3
    with pytest.raises(UserError, match=says):
        prepared(splits([GOOD_ROW] * 20, test=test), tmp_path)


def test_other_options_that_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.labels names classes"):
        prepared([GOOD_ROW] * 20, tmp_path, labels=["a", "b"])
    with pytest.raises(UserError, match=r"no_answer_threshold=1\.5 changes nothing"):
        prepared([GOOD_ROW] * 20, tmp_path, QuestionAnswering(no_answer_threshold=1.5))
    with pytest.raises(UserError, match=r"task\.stride=-1"):
        QuestionAnswering(stride=-1)
    with pytest.raises(UserError, match=r"task\.max_answer_length=0"):
        QuestionAnswering(max_answer_length=0)
    with pytest.raises(UserError, match=r"task\.no_answer_threshold=nan"):
        QuestionAnswering(no_answer_threshold=float("nan"))
    with pytest.raises(UserError, match=r"task\.metric=accuracy"):
        QuestionAnswering(metric="accuracy")
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(UserError, match=r"Slow cannot say: take a model with a tokenizer\.json"):
        QuestionAnswering().preprocessor.encode(slow, {}, 24)


def test_the_order_of_a_trained_head():
    order = QuestionAnswering().head.output_order
    assert order({0: "LABEL_0", 1: "LABEL_1"}, []) == [0, 1]
    assert order({0: "end", 1: "START"}, []) == [1, 0]
    assert order({0: "negative", 1: "positive"}, []) is None
    assert order({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, []) is None


# --- answers ------------------------------------------------------------------------------------


def of_windows(*windows):
    """Each window a list of (start, end) logits, the first unit's before the others."""
    counts = np.array([len(window) for window in windows])
    return JaggedArray(
        np.array([unit for window in windows for unit in window], np.float32), counts
    )


class Seen:
    """Windows of questions whose contexts are words of one letter."""

    def __init__(self, examples, contexts, golds, places):
        self.source = Dataset.from_dict(
            {
                "text_pair": contexts,
                "label": [{"text": gold, "answer_start": [0] * len(gold)} for gold in golds],
            }
        )
        rows = {
            "example": examples,
            "starts": [[0, *place] for place in places],
            "ends": [[0, *(at + 1 for at in place)] for place in places],
        }
        self.student = Dataset.from_dict(rows)

    column = DistillationDataset.column


def test_the_best_window_answers_and_the_least_score_declines():
    logits = of_windows(
        [(0, 0), (1, 0), (0, 1)],
        [(3, 3), (2, 0), (0, 2)],  # better span, in another window
        [(9, 9), (0.5, 0), (0, 1)],
        [(1, 1), (0, 0), (0, 0)],
    )
    places = [[0, 2], [4, 6], [0, 2], [4, 6]]
    seen = Seen([0, 0, 2, 2], ["a b c d", "-", "e f g h"], [["c d"], ["x"], []], places)
    task = QuestionAnswering()
    # The least score of no answer is 0 of question 0 and 2 of question 2, against 4 and 1.5.
    assert task.evaluator.predict_answers(logits, seen) == {0: "c d", 2: ""}
    assert task.evaluator.metric_inputs(logits, seen)[0].tolist() == [[1, 1], [1, 1]]
    patient = QuestionAnswering(no_answer_threshold=1.0)  # 2 is not more than 1 above
    assert patient.evaluator.predict_answers(logits, seen) == {0: "c d", 2: "e f"}
    assert patient.evaluator.metric_inputs(logits, seen)[0].tolist() == [[1, 1], [0, 0]]
    # Where every question has an answer, none is declined.
    seen = Seen([0, 0, 2, 2], ["a b c d", "-", "e f g h"], [["c d"], ["x"], ["g"]], places)
    assert task.evaluator.predict_answers(logits, seen) == {0: "c d", 2: "e f"}
    short = QuestionAnswering(max_answer_length=1)
    assert short.evaluator.predict_answers(logits, seen)[0] in ("c", "d")


def test_a_context_without_tokens_has_no_answer():
    seen = Seen([0], ["\u200b"], [["x"]], [[]])
    assert QuestionAnswering().evaluator.predict_answers(of_windows([(0, 0)]), seen) == {0: ""}


def test_fidelity():
    draw = np.random.default_rng(0)
    counts = draw.integers(2, 9, 40)
    ours, theirs = (
        JaggedArray(draw.normal(0, 2, (counts.sum(), 2)).astype(np.float32), counts)
        for _ in range(2)
    )
    task = QuestionAnswering()
    same = task.evaluator.fidelity(ours, ours)
    assert same == {"agreement": 1, "kl_divergence": pytest.approx(0, abs=1e-9)}
    expected = []
    for a, b in zip(ours.split(), theirs.split(), strict=True):
        for column in range(2):
            p, q = (log_softmax(one[:, column].astype(np.float64)) for one in (b, a))
            expected.append((np.exp(p) * (p - q)).sum())
    found = task.evaluator.fidelity(ours, theirs)
    assert found["kl_divergence"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert 0 <= found["agreement"] < 0.6
    shifted = JaggedArray(ours.values + 3, counts)
    assert task.evaluator.fidelity(shifted, ours)["agreement"] == 1


# --- losses -------------------------------------------------------------------------------------

UNITS = torch.tensor([3, 6, 1, 4])


@pytest.fixture
def both():
    torch.manual_seed(0)
    return [2 * torch.randn(int(UNITS.sum()), 2, requires_grad=i == 0) for i in range(2)]


def test_arranged_rows(both):
    task = QuestionAnswering()
    rows = task.criterion.to_distributions(both[0], {"position_counts": UNITS})
    assert rows.shape == (8, 6)
    assert rows[2].tolist() == both[0][3:9, 0].tolist()
    assert rows[3].tolist() == both[0][3:9, 1].tolist()
    assert rows[7].tolist() == [*both[0][10:, 1].tolist(), MISSING_LOGIT, MISSING_LOGIT]
    assert torch.equal(task.criterion.from_distributions(rows, {"position_counts": UNITS}), both[0])
    half = task.criterion.to_distributions(both[0].bfloat16(), {"position_counts": UNITS})
    assert half.dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
@pytest.mark.parametrize(
    ("divergence", "one"),
    [
        (soft_target_kl, lambda p, q: (p.exp() * (p - q)).sum()),
        (divergences.reverse_kl, lambda p, q: (q.exp() * (q - p)).sum()),
        (soft_cross_entropy, lambda p, q: -(p.exp() * q).sum()),
        (divergences.total_variation, lambda p, q: 0.5 * (p.exp() - q.exp()).abs().sum()),
        (
            divergences.jensen_shannon,
            lambda p, q: 0.5 * sum(
                (x.exp() * (x - torch.log((p.exp() + q.exp()) / 2))).sum() for x in (p, q)
            ),
        ),
    ],
)  # fmt: skip
def test_terms_over_windows_of_different_lengths(divergence, one, temperature, both):
    """Against each window by itself, in float64: nothing is filled up there."""
    task, batch = QuestionAnswering(), {"position_counts": UNITS}
    student, teacher = (task.criterion.to_distributions(logits, batch) for logits in both)
    found = divergence(student, teacher, temperature)
    (gradient,) = torch.autograd.grad(found, both[0])
    each = [logits.detach().double().requires_grad_() for logits in both]
    total = 0
    for ours, theirs in zip(*(e.split(UNITS.tolist()) for e in each), strict=True):
        for column in range(2):
            q, p = (
                torch.log_softmax(logits[:, column] / temperature, 0) for logits in (ours, theirs)
            )
            total = total + one(p, q) * temperature ** (
                1 if divergence is divergences.total_variation else 2
            )
    expected = total / (2 * len(UNITS))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (reference,) = torch.autograd.grad(expected, each[0])
    torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-6)


def test_hard_labels_and_windows_without(both):
    task = QuestionAnswering()
    rows = task.criterion.to_distributions(both[0], {"position_counts": UNITS})
    labels = torch.tensor([1, 2, 5, 5, IGNORED_LABEL, IGNORED_LABEL, 0, 0])
    total = 0.0
    for index, (window, (start, end)) in enumerate(
        zip(both[0].detach().double().split(UNITS.tolist()), labels.view(-1, 2), strict=True)
    ):
        if index != 2:
            total -= (
                torch.log_softmax(window[:, 0], 0)[start] + torch.log_softmax(window[:, 1], 0)[end]
            )
    assert task.criterion.hard_label_loss(rows, labels).item() == pytest.approx(
        float(total) / 8, rel=1e-5
    )
    none = task.criterion.hard_label_loss(rows, torch.full((8,), IGNORED_LABEL))
    assert none.item() == 0
    (gradient,) = torch.autograd.grad(none, both[0])
    assert (gradient == 0).all()


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_an_ensemble_is_a_mean_over_the_positions_of_a_window(combine, both):
    task = QuestionAnswering()
    members = {"a": make_model(), "b": make_model()}
    model = Ensemble(members, combine, {"a": 0.25, "b": 0.75})
    cached_logits = [JaggedArray(logits.detach().numpy(), UNITS.numpy()) for logits in both]
    found = combine_logits(model, cached_logits, task.criterion)
    for window, a, b in zip(found.split(), *(one.split() for one in cached_logits), strict=True):
        for column in range(2):
            p = log_softmax(window[:, column].astype(np.float64))
            x, y = a[:, column].astype(np.float64), b[:, column].astype(np.float64)
            if combine == "logits":
                expected = log_softmax(0.25 * x + 0.75 * y)
            else:
                expected = np.log(0.25 * np.exp(log_softmax(x)) + 0.75 * np.exp(log_softmax(y)))
            assert p == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("combine", ["probabilities", "logits", "random"])
def test_what_the_objective_sees_of_an_ensemble(combine, both):
    task, batch = QuestionAnswering(), {"position_counts": UNITS}
    model = Ensemble({"a": make_model(), "b": make_model()}, combine, {"a": 0.5, "b": 0.5})
    said = model.combine_cached_logits(torch.stack([logits.detach() for logits in both], 1))
    module = DistillationModule.__new__(DistillationModule)
    torch.nn.Module.__init__(module)
    module.task = task
    seen = module._to_distributions(said, batch)
    rows = [task.criterion.to_distributions(logits.detach(), batch) for logits in both]
    for temperature in (1.0, 3.0):
        found = torch.softmax(seen.logits_at(temperature) / temperature, -1)
        each = [torch.softmax(one / temperature, -1) for one in rows]
        if combine == "random":
            assert any(torch.allclose(found, one) for one in each)
        elif combine == "logits":
            torch.testing.assert_close(found, torch.softmax(sum(rows) / 2 / temperature, -1))
        else:
            torch.testing.assert_close(found, sum(each) / 2)
            torch.testing.assert_close(torch.softmax(seen.logits, -1), sum(
                torch.softmax(one, -1) for one in rows
            ) / 2)  # fmt: skip
    assert torch.equal(seen.for_teacher("b").logits, rows[1])


# --- models -------------------------------------------------------------------------------------


def test_companions_in_a_batch_change_nothing(pieces, tmp_path):
    torch.manual_seed(0)
    config = make_model(vocab_size=64).config
    model = AutoModelForQuestionAnswering.from_config(config).eval()
    task, batches = windows(TEXTS, pieces, tmp_path, 32)
    with torch.no_grad():
        alone = [
            forward_at_positions(model, batches[[i]]["student"]).logits for i in range(len(batches))
        ]
        together = forward_at_positions(model, batches[list(range(len(batches)))]["student"]).logits
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    batch = batches[list(range(len(batches)))]
    losses = [
        task.criterion.hard_label_loss(task.criterion.to_distributions(one, b), b["labels"])
        for one, b in ((a, batches[[i]]) for i, a in enumerate(alone))
    ]
    whole = task.criterion.hard_label_loss(
        task.criterion.to_distributions(together, batch), batch["labels"]
    )
    assert whole.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    every = predict_logits(model, batches, CPU, batch_size=3)
    torch.testing.assert_close(torch.from_numpy(every.values), together, rtol=1e-4, atol=1e-5)
    some = batches.select([9, 2, 8])  # windows of two questions, as a limited validation has them
    part = task.evaluator.predict_answers(every.select([9, 2, 8]), some)
    assert list(part) == [2, 8]
    assert part[2] == task.evaluator.predict_answers(every, batches)[2]
    assert len(task.evaluator.metric_inputs(every.select([9, 2, 8]), some)[0]) == 2


def test_stored_outputs_are_what_the_teacher_says(pieces, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_config(make_model(vocab_size=64).config).eval()
    task, batches = windows(TEXTS, pieces, tmp_path, 24)
    teacher = Teacher("t", model, pieces, "hash", 0.0, True)
    first, _, reused = cached_logits(
        teacher, batches, "content", task.preprocessor, 24, CPU, tmp_path
    )
    assert not reused and isinstance(first.values, np.memmap)
    again, _, reused = cached_logits(
        teacher, batches, "content", task.preprocessor, 24, CPU, tmp_path
    )
    assert reused and np.array_equal(first.values, again.values)
    brought = DistillationDataset(
        batches.student, batches.collate, teacher_logits=ConcatLogits([[again]], False)
    )
    objective = Objective("kd", soft_targets=SoftTargets(1.0, 2.0)).bind(ModelPair(task, 2))
    module = DistillationModule(model, objective, task, AdamW())
    live = DistillationModule(model, objective, task, AdamW(), teacher=model)
    batch = brought[[7, 1, 10, 4]]
    said = module.teacher_outputs(batch).logits
    assert said.shape == (8, int(batch["position_counts"].max()))
    heard = live.teacher_outputs(
        {"teacher": batch["student"], "position_counts": batch["position_counts"]}
    ).logits
    torch.testing.assert_close(said, heard, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        student = module._to_distributions(
            forward_with_features(model, batch["student"], {"logits"}), batch
        )
    loss = objective(student, ModelOutputs(said), batch)["loss"]
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_part_of_a_batch_weighs_by_its_windows(pieces, tmp_path):
    """Each process's mean is over its own windows, however many units these have."""
    _, batches = windows(TEXTS, pieces, tmp_path, 24)
    parts = []
    for rank in range(2):
        indices = BatchIndices([0, 1, 2, 12, 13], ProcessRank(rank, 2))
        parts.append(batches[indices]["batch_share"])
    assert parts == [3 * 2 / 5, 2 * 2 / 5]
