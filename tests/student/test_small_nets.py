"""BiLSTM and static students: their functions against plain loops, their starts, their folders."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill.core.errors import UserError
from distill.modeling import loading
from distill.modeling.architectures.bilstm import BiLstmConfig, BiLstmForSequenceClassification
from distill.modeling.architectures.cnn import (
    CnnConfig,
    CnnForSequenceClassification,
    CnnForTokenClassification,
)
from distill.modeling.architectures.compact import (
    CompactBertConfig,
    CompactBertForSequenceClassification,
)
from distill.modeling.architectures.ngram import NgramConfig, NgramForSequenceClassification
from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.modeling.families import layer_stack
from distill.modeling.forward import forward_at_positions
from distill.modeling.size import count_parameters
from distill.student import embedding_tables
from distill.student.bilstm import BiLSTMFactory
from distill.student.cnn import CNNFactory
from distill.student.ngram import NgramFactory
from distill.student.static import StaticFactory
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import Teacher
from distill.training.optimizer import default_learning_rate
from tests.factories import counted_operations as counted
from tests.factories import make_model, prepared, sentences, student_context, write_csv

NAMES = ["negative", "positive"]
IDS = [[2, 7, 9, 8, 3, 11, 12, 3], [2, 5, 3], [2, 6, 3, 14, 3]]  # 2 opens, 3 separates


def bilstm(**settings):
    torch.manual_seed(0)
    shape = {"vocab_size": 20, "embedding_size": 6, "hidden_size": 8, "head_size": 5}
    config = BiLstmConfig(**shape | {"num_labels": 3, "separator_id": 3} | settings)
    return _lively(BiLstmForSequenceClassification(config))


def static(**settings):
    torch.manual_seed(0)
    shape = {"vocab_size": 20, "hidden_size": 6, "head_size": 5, "skipped_ids": [2, 3]}
    config = StaticConfig(**shape | {"num_labels": 3, "separator_id": 3} | settings)
    return _lively(StaticForSequenceClassification(config))


def cnn(**settings):
    torch.manual_seed(0)
    shape = {"vocab_size": 20, "embedding_size": 6, "channels": 4, "widths": [2, 3], "head_size": 5}
    config = CnnConfig(
        **shape | {"num_labels": 3, "separator_id": 3, "skipped_ids": [2, 3]} | settings
    )
    return _lively(CnnForSequenceClassification(config))


def ngram(**settings):
    torch.manual_seed(0)
    shape = {"vocab_size": 20, "hidden_size": 6, "head_size": 5, "skipped_ids": [2, 3]}
    shape |= {"orders": [2, 3], "buckets": 50, "character_buckets": 9, "pieces": 4}
    model = NgramForSequenceClassification(
        NgramConfig(**shape | {"num_labels": 3, "separator_id": 3} | settings)
    )
    if model.config.character_buckets:
        model.encoder.pieces[5:, :2] = torch.randint(1, 9, (model.config.vocab_size - 5, 2))
        model.encoder.pieces[9:, 2] = 4
    _lively(model)
    if model.config.character_buckets:
        model.encoder.characters.weight.data[0] = 0  # padding, as it stays in training
    return model


def _lively(model):
    for parameter in model.parameters():  # weights of 0.02 would hide mistakes
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def numbers(model):
    return {key: value.double().numpy() for key, value in model.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(weights, layer, rows, direction):
    """One direction over ``(L, E)``, gates in torch's order: input, forget, cell, output."""
    w, u, b, c = (
        weights[f"encoder.layers.{layer}.{direction}.{kind}_l0"]
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state = memory = np.zeros(u.shape[1])
    result = []
    for row in rows:
        i, f, g, o = np.split(w @ row + b + u @ state + c, 4)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(memory)
        result.append(state)
    return np.array(result)


def head_by_hand(weights, features):
    hidden = np.maximum(0, weights["hidden.weight"] @ features + weights["hidden.bias"])
    return weights["classifier.weight"] @ hidden + weights["classifier.bias"]


def combined(states, ids, pairs, pool):
    if not pairs:
        return pool(states)
    cut = ids.index(3) + 1  # the separator still belongs to the first text
    first, second = states[:cut], states[cut:]
    u = pool(first)
    v = pool(second) if len(second) else np.zeros_like(u)
    return np.concatenate([u, v, u * v, abs(u - v)])


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("pairs", [False, True])
def test_bilstm_equals_a_loop_over_tokens_whatever_the_padding(pooling, layers, pairs):
    model = bilstm(pooling=pooling, num_hidden_layers=layers, pairs=pairs)
    weights = numbers(model)
    pool = (lambda s: s.max(axis=0)) if pooling == "max" else (lambda s: s.mean(axis=0))
    with torch.no_grad():
        together = model(**padded(IDS)).logits
    for row, ids in enumerate(IDS):
        states = weights["encoder.embeddings.weight"][ids]
        for layer in range(layers):
            forward = lstm_by_hand(weights, layer, states, "ahead")
            backward = lstm_by_hand(weights, layer, states[::-1], "back")[::-1]
            states = np.concatenate([forward, backward], axis=1)
        expected = head_by_hand(weights, combined(states, ids, pairs, pool))
        np.testing.assert_allclose(together[row].numpy(), expected, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([ids])).logits[0]
        torch.testing.assert_close(alone, together[row])


@pytest.mark.parametrize("pairs", [False, True])
def test_static_equals_a_mean_by_hand_whatever_the_padding(pairs):
    model = static(pairs=pairs)
    weights = numbers(model)
    with torch.no_grad():
        together = model(**padded(IDS)).logits
    for row, ids in enumerate(IDS):

        def mean(tokens):
            kept = [weights["encoder.embeddings.weight"][t] for t in tokens if t not in (2, 3)]
            return np.mean(kept, axis=0) if kept else np.zeros(6)

        features = combined(ids, ids, pairs, mean)
        expected = head_by_hand(weights, features)
        np.testing.assert_allclose(together[row].numpy(), expected, rtol=1e-4, atol=1e-5)


def pools(pooling):
    """Pool rows ``(L, H)`` by hand; 0 without rows."""

    def pool(rows, width=None):
        if not len(rows):
            rows = np.zeros((1, width))
        parts = {"mean": [rows.mean(axis=0)], "max": [rows.max(axis=0)]}
        return np.concatenate(parts.get(pooling) or parts["mean"] + parts["max"])

    return pool


def pooled_by_hand(states, ids, pairs, pooling):
    """Features of states ``(L, H)`` of all tokens, those of 2 and 3 left out."""
    pool = pools(pooling)
    kept = [place for place, token in enumerate(ids) if token not in (2, 3)]
    cut = ids.index(3) + 1 if pairs else len(ids)
    parts = [
        pool(states[[place for place in kept if (place < cut) == first]], states.shape[1])
        for first in (True, False)
    ]
    if not pairs:
        return parts[0]
    u, v = parts
    return np.concatenate([u, v, u * v, abs(u - v)])


def filtered_by_hand(weights, ids, widths):
    """Filters by numpy's own convolution, one channel and one coordinate at a time."""
    rows, columns = weights["encoder.embeddings.weight"][ids], []
    for index, width in enumerate(widths):
        kernels = weights[f"encoder.filters.{index}.weight"].reshape(-1, width, rows.shape[1])
        before = (width - 1) // 2
        padded = np.pad(rows, ((before, width - 1 - before), (0, 0)))
        for kernel, bias in zip(kernels, weights[f"encoder.filters.{index}.bias"], strict=True):
            sums = sum(
                np.correlate(padded[:, column], kernel[:, column], "valid")
                for column in range(rows.shape[1])
            )
            columns.append(np.maximum(0, sums + bias))
    return np.stack(columns, axis=1)


def ngrams_by_hand(model, weights, ids):
    states = weights["encoder.embeddings.weight"][ids].copy()
    for place, token in enumerate(ids):
        pieces = [int(piece) for piece in model.encoder.pieces[token] if piece]
        if pieces:
            states[place] += weights["encoder.characters.weight"][pieces].mean(axis=0)
        for order in (2, 3):
            if place + order <= len(ids):
                hashed = order
                for other in ids[place : place + order]:
                    hashed = (hashed * 1000003 + other + 1) % (2**31 - 1)
                states[place] += weights["encoder.ngrams.weight"][hashed % 50]
    return states


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["static", "cnn", "ngram"])
def test_small_networks_equal_loops_whatever_the_padding(kind, pairs, pooling):
    model = {"static": static, "cnn": cnn, "ngram": ngram}[kind](pairs=pairs, pooling=pooling)
    weights = numbers(model)
    with torch.no_grad():
        together = model(**padded(IDS)).logits
    for row, ids in enumerate(IDS):
        states = {
            "static": lambda ids: weights["encoder.embeddings.weight"][ids],
            "cnn": lambda ids: filtered_by_hand(weights, ids, [2, 3]),
            "ngram": lambda ids: ngrams_by_hand(model, weights, ids),
        }[kind](ids)
        expected = head_by_hand(weights, pooled_by_hand(states, ids, pairs, pooling))
        np.testing.assert_allclose(together[row].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_tagger_reads_each_token_through_its_filters():
    torch.manual_seed(0)
    config = {"vocab_size": 20, "embedding_size": 6, "channels": 4, "widths": [2, 3]}
    model = _lively(CnnForTokenClassification(CnnConfig(**config, head_size=5, num_labels=3)))
    weights = numbers(model)
    with torch.no_grad():
        together = model(**padded(IDS)).logits
        positions = torch.tensor([[1, 4], [1, -1], [3, 2]])
        some = forward_at_positions(model, padded(IDS) | {"positions": positions}).logits
    for row, ids in enumerate(IDS):
        states = filtered_by_hand(weights, ids, [2, 3])
        expected = np.stack([head_by_hand(weights, state) for state in states])
        np.testing.assert_allclose(
            together[row, : len(ids)].numpy(), expected, rtol=1e-4, atol=1e-5
        )
    wanted = [together[0, 1], together[0, 4], together[1, 1], together[2, 3], together[2, 2]]
    torch.testing.assert_close(some, torch.stack(wanted))


@pytest.mark.parametrize("make", [static, cnn, ngram])
def test_word_dropout_leaves_words_out_in_training_alone(make):
    model, inputs = make(word_dropout=0.5, dropout=0.0), padded(IDS[:1])
    with torch.no_grad():
        whole = model(**inputs).logits
        assert torch.equal(model(**inputs).logits, whole)
        model.train()
        drawn = {tuple(model(**inputs).logits[0].tolist()) for _ in range(20)}
        assert len(drawn) > 5
        # Whatever is drawn is the text with some of its tokens masked.
        masks = torch.tensor([[(n >> bit) & 1 for bit in range(8)] for n in range(256)])
        ids = inputs["input_ids"].expand(256, -1)
        possible = model.eval()(input_ids=ids, attention_mask=masks).logits
    for logits in drawn:
        assert (possible - torch.tensor(logits)).abs().amax(dim=1).min() < 1e-5


def test_bilstm_refuses_padding_on_the_left():
    mask = torch.tensor([[0, 1, 1]])
    with pytest.raises(ValueError, match="right"):
        bilstm()(input_ids=torch.tensor([[0, 4, 5]]), attention_mask=mask)


@pytest.mark.parametrize("make", [bilstm, static, cnn, ngram])
def test_gradients_reach_every_weight_and_no_padding(make):
    model = make(pad_token_id=0).train()
    output = model(**padded(IDS), labels=torch.tensor([0, 1, 2]))
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert model.get_input_embeddings().weight.grad[0].abs().sum() == 0


def test_hidden_states_of_bilstm():
    with torch.no_grad():
        states = bilstm(num_hidden_layers=2)(**padded(IDS), output_hidden_states=True).hidden_states
    assert [tuple(state.shape) for state in states] == [(3, 8, 6), (3, 8, 8), (3, 8, 8)]
    assert all((state[1, 3:] == 0).all() for state in states)


@pytest.mark.parametrize("tokens", [1, 9])
def test_multiply_accumulates_by_hand(tokens):
    """Four gates, each from the input and the state, in two directions; then the head."""
    body = 2 * 4 * 4 * (6 + 4) + 2 * 4 * 4 * (8 + 4)
    head = 8 * 5 + 5 * 3
    assert counted(bilstm(num_hidden_layers=2), tokens) == tokens * body + head
    assert counted(static(), tokens) == 6 * 5 + 5 * 3
    assert counted(static(head_size=0), tokens) == 6 * 3


def test_parameters_without_embeddings():
    total, rest = count_parameters(static())
    assert (total, rest) == (20 * 6 + 6 * 5 + 5 + 5 * 3 + 3, 6 * 5 + 5 + 5 * 3 + 3)


@pytest.mark.parametrize("make", [bilstm, static, cnn, ngram])
def test_the_rest_of_the_program_takes_them(make):
    model = make()
    assert loading.check_max_length(model.config, 5000) == 5000
    assert default_learning_rate(model) > default_learning_rate(make_model())


def test_static_has_no_layers_to_choose_from():
    with pytest.raises(UserError, match="no single stack"):
        layer_stack(static())


# --- starts ------------------------------------------------------------------------------------


@pytest.fixture
def data():
    return prepared([row | {"label": 0} for row in sentences(20, 1)])


def teacher_of(tokenizer, family="bert"):
    model = make_model(family).eval()
    return Teacher("teacher", model, tokenizer, f"hash-{family}", 0.0, True)


def test_outputs_alone_are_those_of_each_token_between_the_special_ones(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    everything = torch.arange(len(tokenizer))
    rows = embedding_tables.token_outputs(teacher, everything, tmp_path, batch_size=5)
    assert rows.shape == (len(tokenizer), 32)
    for token in (7, 19):
        with torch.no_grad():
            states = teacher.model.bert(input_ids=torch.tensor([[2, token, 3]])).last_hidden_state
        torch.testing.assert_close(rows[token], states[0, 1])
    teacher.model.requires_grad_(False).bert.embeddings.word_embeddings.weight.zero_()
    assert torch.equal(embedding_tables.token_outputs(teacher, everything, tmp_path), rows)  # kept


def test_only_the_tokens_that_are_asked_for_are_computed_and_each_once(
    tokenizer, tmp_path, monkeypatch
):
    teacher, computed = teacher_of(tokenizer), []
    compute = embedding_tables._compute_outputs
    monkeypatch.setattr(
        embedding_tables, "_compute_outputs",
        lambda teacher, ids, size: computed.append(ids.tolist()) or compute(teacher, ids, size),
    )  # fmt: skip
    some, others = torch.tensor([19, 7]), torch.tensor([7, 5, 19])
    first = embedding_tables.token_outputs(teacher, some, tmp_path)
    second = embedding_tables.token_outputs(teacher, others, tmp_path)
    assert computed == [[19, 7], [5]]
    torch.testing.assert_close(second[[2, 0]], first)
    whole = embedding_tables.token_outputs(teacher, torch.arange(len(tokenizer)), tmp_path / "new")
    torch.testing.assert_close(second, whole[others])


def test_reduction_keeps_distances_where_the_rows_have_so_few_directions():
    torch.manual_seed(0)
    table = torch.randn(40, 3) @ torch.randn(3, 10) + 5
    reduced = embedding_tables.reduce_width(table, 3)
    ours, theirs = ((rows[:, None] - rows).norm(dim=-1) for rows in (reduced, table))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(embedding_tables.reduce_width(table, 10), table)


def test_reduction_keeps_the_most_variance():
    torch.manual_seed(0)
    table = torch.randn(200, 6) * torch.tensor([5.0, 4, 3, 2, 1, 0.5])
    _, values, _ = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    torch.testing.assert_close(embedding_tables.reduce_width(table, 2).norm(dim=0), values[:2])


@pytest.mark.parametrize(
    "recipe",
    [
        BiLSTMFactory(name="s"),
        StaticFactory(name="s", weighting="none"),
        CNNFactory(name="s", weighting="none"),
    ],
)
def test_embeddings_start_from_the_teachers(recipe, tokenizer, data, tmp_path):
    teacher = teacher_of(tokenizer)
    recipe = type(recipe)(**vars(recipe) | {"start": "embeddings"})
    recipe.check(teacher.model.config)
    student = recipe.build(student_context(teacher, tmp_path, data))
    ours = student.model.get_input_embeddings().weight.detach()
    theirs = teacher.model.get_input_embeddings().weight[: len(tokenizer)].detach()
    cosine = torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
    assert cosine > 0.999999
    assert ours.square().mean().sqrt() == pytest.approx(0.4, rel=1e-5)
    assert student.model.config.id2label == {0: "negative", 1: "positive"}
    assert "embeddings" in student.origin


def test_frequent_words_weigh_less(tokenizer, tmp_path):
    teacher = teacher_of(tokenizer)
    rows = [{"text": "the film the film the good", "label": 0}]
    plain, weighted = (
        StaticFactory(name="s", weighting=weighting)
        .build(student_context(teacher, tmp_path, prepared(rows)))
        .model.get_input_embeddings()
        .weight
        for weighting in ("none", "frequency")
    )
    share = {"the": 3 / 6, "film": 2 / 6, "good": 1 / 6, "bad": 0}
    for word, p in share.items():
        index = tokenizer.convert_tokens_to_ids(word)
        torch.testing.assert_close(weighted[index], plain[index] * 1e-3 / (1e-3 + p))


@pytest.mark.parametrize("recipe", [BiLSTMFactory, StaticFactory, CNNFactory, NgramFactory])
def test_pairs_are_told_apart(recipe, tokenizer, tmp_path):
    rows = [{"text": "the film", "text_pair": "a story", "label": 0}]
    student = recipe(name="s").build(
        student_context(teacher_of(tokenizer), tmp_path, prepared(rows))
    )
    assert student.model.config.pairs
    model = _lively(student.model)
    one = model(**tokenizer("good film", "bad plot", return_tensors="pt")).logits
    other = model(**tokenizer("good film bad", "plot", return_tensors="pt")).logits
    assert not torch.allclose(one, other)
    tokenizer = type("WithoutSeparator", (), {"sep_token_id": None, "pad_token_id": 0})
    from distill.student.small_network import pair_settings

    with pytest.raises(UserError, match="separator"):
        pair_settings(prepared(rows), tokenizer)


@pytest.mark.parametrize(
    ("recipe", "settings", "option"),
    [
        (BiLSTMFactory, {"hidden_size": 7}, "hidden_size=7"),
        (BiLSTMFactory, {"hidden_layers": 0}, "hidden_layers=0"),
        (BiLSTMFactory, {"embedding_size": 0}, "embedding_size=0"),
        (BiLSTMFactory, {"pooling": "last"}, "pooling=last"),
        (BiLSTMFactory, {"start": "elsewhere"}, "start=elsewhere"),
        (BiLSTMFactory, {"dropout": 1.0}, "dropout=1"),
        (StaticFactory, {"hidden_size": 0}, "hidden_size=0"),
        (StaticFactory, {"head_size": -1}, "head_size=-1"),
        (StaticFactory, {"weighting": "idf"}, "weighting=idf"),
        (StaticFactory, {"start": "elsewhere"}, "start=elsewhere"),
        (StaticFactory, {"dropout": -0.1}, "dropout=-0.1"),
        (StaticFactory, {"word_dropout": 1.0}, "word_dropout=1"),
        (StaticFactory, {"pooling": "last"}, "pooling=last"),
        (CNNFactory, {"embedding_size": 0}, "embedding_size=0"),
        (CNNFactory, {"channels": 0}, "channels=0"),
        (CNNFactory, {"widths": []}, r"widths=\[\]"),
        (CNNFactory, {"widths": [3, 3]}, r"widths=\[3, 3\]"),
        (NgramFactory, {"orders": [1]}, r"orders=\[1\]"),
        (NgramFactory, {"buckets": 0}, "buckets=0"),
        (NgramFactory, {"character_buckets": 1}, "character_buckets=1"),
    ],
)
def test_refuses_what_does_not_exist(recipe, settings, option):
    with pytest.raises(UserError, match=f"student.{option}"):
        recipe(name="s", **settings)


def test_refuses_embeddings_wider_than_the_teachers():
    config = make_model("electra").config
    config.embedding_size = 16
    with pytest.raises(UserError, match=r"embedding_size=20.*16 wide"):
        BiLSTMFactory(name="s", embedding_size=20).check(config)
    BiLSTMFactory(name="s", embedding_size=20, start="outputs").check(config)
    BiLSTMFactory(name="s", embedding_size=500, start="random").check(config)
    with pytest.raises(UserError, match=r"hidden_size=40.*32 wide"):
        StaticFactory(name="s", hidden_size=40).check(config)


@pytest.mark.parametrize("recipe", [StaticFactory, CNNFactory, NgramFactory])
@pytest.mark.parametrize(
    ("task", "names", "labels"),
    [
        (SequenceClassification(), ["a", "b", "c"], [2, 0]),
        (MultiLabel(), ["a", "b", "c"], [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        (Regression(), ["score"], [0.5, 2.0]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_task_with_one_answer_per_text(task, names, labels, recipe, tokenizer, tmp_path):
    data = prepared([{"text": "the good film", "label": 0}] * 2, names)
    student = recipe(name="s", vocabulary="corpus").build(
        student_context(teacher_of(tokenizer), tmp_path, data, task)
    )
    assert student.model.config.id2label == dict(enumerate(names))
    inputs = student.processor(["the film", "bad"], padding=True, return_tensors="pt")
    output = student.model.train()(**inputs, labels=torch.tensor(labels))
    assert output.logits.shape == (2, len(names))
    expected = task.criterion.hard_label_loss(output.logits, torch.tensor(labels))
    if task.name == "multi_label":  # a mean over the classes, the criterion's is a sum
        expected = expected / len(names)
    torch.testing.assert_close(output.loss, expected)


# --- saved -------------------------------------------------------------------------------------

PLAIN = """
import json, sys
sys.modules["distill"] = None  # must not be needed
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder = sys.argv[1]
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
inputs = tokenizer(["the good film", "bad"], padding=True, return_tensors="pt")
said = pipeline("text-classification", model=folder, trust_remote_code=True)("the good film")
print(json.dumps([model(**inputs).logits.tolist(), said[0]["label"]]))
"""


def compact(**settings):
    torch.manual_seed(0)
    shape = {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8,
        "attention_head_size": 4, "embedding_rank": 3, "max_position_embeddings": 32,
    }  # fmt: skip
    return _lively(CompactBertForSequenceClassification(CompactBertConfig(**shape | settings)))


@pytest.mark.parametrize("make", [bilstm, static, cnn, ngram, compact])
def test_a_saved_one_loads_here_by_its_folder_and_elsewhere_with_its_code(
    make, tokenizer, tmp_path
):
    model = make(vocab_size=len(tokenizer), id2label={0: "a", 1: "b", 2: "c"})
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    inputs = tokenizer(["the good film", "bad"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
        assert type(loaded) is type(model)
        assert torch.equal(loaded(**inputs).logits, expected)
    # PYTHONPATH and the working directory have no distill; the name is blocked besides.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, tmp_path / "saved"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logits, label = json.loads(done.stdout.splitlines()[-1])
    torch.testing.assert_close(torch.tensor(logits), expected)
    assert label == model.config.id2label[int(expected[0].argmax())]


def test_a_new_head_where_the_classes_are_others(tmp_path):
    bilstm().save_pretrained(tmp_path)
    model = SequenceClassification().head.load(str(tmp_path), NAMES)
    assert model.classifier.weight.shape == (2, 5)
    assert torch.isfinite(model.classifier.weight).all()
    assert torch.equal(model.hidden.weight, bilstm().hidden.weight)


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["bilstm", "static", "cnn"])
def test_learns_and_is_reported(choice, command, small, corpus):
    width = f"student.{'channels' if choice == 'cnn' else 'hidden_size'}=16"
    code, _, err = command(
        *small, f"student={choice}", "trainer.max_epochs=4", "optimizer.learning_rate=1e-2",
        width, "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    roles = [model["role"] for model in report["models"]]
    assert roles == ["teacher", "student", "control"]
    student = report["models"][1]
    assert student["name"] == choice
    assert student["quality"]["accuracy"]["value"] > 0.75
    assert student["speed"]["peak_memory_bytes"] > student["size"]["bytes"]
    card = Path("run/student/README.md").read_text()
    assert "trust_remote_code=True)" in card
    assert f"the teacher's {'embeddings' if choice == 'bilstm' else 'outputs'}" in card
    assert Path(f"run/student/{choice}.py").is_file()

    # It can be a student's start, and a teacher, by its path alone; a teacher without layers to
    # copy is refused in one line.
    code, _, err = command(
        *small, "student=hub", "student.path=run", "control=false", "debug=fast", "output_dir=next"
    )
    assert code == 0, err
    code, _, err = command(*small, "teacher.path=run", "student=half", "output_dir=refused")
    assert code == 2
    assert "no transformer layers" in err
    code, _, err = command(
        *small, "teacher.path=run", f"student={choice}", "student.start=embeddings",
        width, "control=false", "debug=fast", "output_dir=taught",
    )  # fmt: skip
    assert code == 0, err


def test_pairs_through_the_command(command, small, tmp_path, corpus):
    for split in ("train", "validation", "test"):
        with (corpus / f"{split}.csv").open() as lines:
            rows = [row | {"text_pair": "the film"} for row in csv.DictReader(lines)]
        write_csv(tmp_path / "pairs" / f"{split}.csv", rows)
    code, _, err = command(
        *small, f"data.path={tmp_path}/pairs", "student=static", "debug=fast", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(Path("run/student/config.json").read_text())["pairs"]
