import numpy as np
import pytest
import torch
from datasets import Dataset

from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.sampler import LengthGroupedBatchSampler
from distill.data.text_preprocessor import TextPreprocessor, tokenizer_hash
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import collator, encoded, make_tokenizer


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 60, size=1003)


def test_every_example_once_an_epoch(lengths):
    sampler = LengthGroupedBatchSampler(lengths, 32, seed=0)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(1003))
    assert len(batches) == len(sampler)
    assert {len(batch) for batch in batches} <= {32, 1003 % 32}


def test_batches_are_of_like_length(lengths):
    waste = lambda batches: sum(max(lengths[b]) * len(b) - sum(lengths[b]) for b in batches)  # noqa: E731
    bucketed = list(LengthGroupedBatchSampler(lengths, 32, seed=0))
    order = np.random.default_rng(1).permutation(1003)
    plain = [order[i : i + 32].tolist() for i in range(0, 1003, 32)]
    assert waste(bucketed) < 0.1 * waste(plain)


def test_order_depends_on_seed_and_epoch_alone(lengths):
    def order(seed, epoch):
        sampler = LengthGroupedBatchSampler(lengths, 32, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_companions_change_from_epoch_to_epoch():
    """Shuffling stays fair: an example does not always stand beside the same ones."""
    lengths = np.random.default_rng(0).integers(3, 60, size=8000)
    sampler = LengthGroupedBatchSampler(lengths, 32, seed=0)
    companions = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        companions.append(next(set(batch) for batch in sampler if 17 in batch))
    assert len(companions[0] & companions[1]) < 16


def test_short_and_long_batches_are_mixed(lengths):
    means = [lengths[batch].mean() for batch in LengthGroupedBatchSampler(lengths, 32, seed=0)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.5


def test_unshuffled_puts_the_longest_first(lengths):
    flat = [
        lengths[index]
        for batch in LengthGroupedBatchSampler(lengths, 32, seed=None)
        for index in batch
    ]
    assert flat == sorted(flat, reverse=True)


def test_pads_to_the_longest_of_the_batch_and_no_further(tokenizer):
    rows = encoded(tokenizer, 40)
    batches = DistillationDataset(rows, collator(tokenizer))
    indices = [0, 5, 9]
    batch = batches[indices]["student"]
    longest = max(rows["length"][i] for i in indices)
    assert batch["input_ids"].shape == (3, longest)
    assert batch["attention_mask"].sum(1).tolist() == [rows["length"][i] for i in indices]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    for row, index in enumerate(indices):
        ids = batch["input_ids"][row][batch["attention_mask"][row] == 1]
        assert ids.tolist() == rows["input_ids"][index]


def test_brings_the_teachers_logits_of_the_same_examples(tokenizer):
    rows = encoded(tokenizer, 20)
    logits = np.arange(40, dtype=np.float32).reshape(20, 2)
    batch = DistillationDataset(rows, collator(tokenizer), teacher_logits=logits)[[7, 3]]
    assert batch["teacher_logits"].tolist() == [[14, 15], [6, 7]]
    assert batch["labels"].tolist() == [rows["label"][7], rows["label"][3]]
    assert isinstance(batch["teacher_logits"], torch.Tensor)


def test_tokenises_once(tokenizer, tmp_path):
    from datasets import Dataset

    rows = Dataset.from_dict({"text": ["the film was good", "bad"], "label": [1, 0]})
    calls = []

    class Counted(TextPreprocessor):
        def encode(self, *arguments):
            calls.append(1)
            return super().encode(*arguments)

    def encode(content, max_length):
        schema = SequenceClassification().schema
        return encode_split(
            rows, content, tokenizer, Counted("counted"), schema, max_length, tmp_path
        )

    first, second = encode("content", 16), encode("content", 16)
    assert len(calls) == 1
    assert first["input_ids"] == second["input_ids"]
    assert first["length"] == [6, 3]
    encode("content", 5)
    encode("other content", 16)
    assert len(calls) == 3


def test_tokenizer_hash_is_not_changed_by_use(tokenizer):
    before = tokenizer_hash(tokenizer)
    tokenizer(["the film"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_hash(tokenizer) == before


def test_tokenizer_hash_tells_vocabularies_apart(tokenizer):
    assert tokenizer_hash(tokenizer) != tokenizer_hash(make_tokenizer(["a", "b"]))


def test_tokens_are_compared_whatever_the_class():
    """BERT's and DistilBERT's tokenizers of one vocabulary: another cache, the same tokens."""
    from transformers import DistilBertTokenizerFast

    from tests.factories import FILLER, GOOD, make_tokenizer

    first, other = make_tokenizer(FILLER + GOOD), make_tokenizer(GOOD + FILLER)
    special = {name: getattr(first, name) for name in
               ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}  # fmt: skip
    second = DistilBertTokenizerFast(tokenizer_object=first.backend_tokenizer, **special)
    same_inputs = TextPreprocessor("text").same_inputs
    assert same_inputs(first, second)
    assert tokenizer_hash(first) != tokenizer_hash(second)
    assert not same_inputs(first, other)


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["the film was good"] * 9, None),
        (["the film was good", "영화가 정말 좋았다"], "43%"),  # 3 of 7, special tokens aside
        (["영화가", "정말"], "100%"),
    ],
)
def test_a_note_tells_how_many_tokens_are_unknown(tokenizer, texts, share):
    preprocessor = TextPreprocessor("text")
    rows = Dataset.from_dict(
        preprocessor.encode(tokenizer, {"text": texts, "label": [0] * len(texts)}, 16)
    )
    notes = preprocessor.processor_notes(tokenizer, rows)
    assert [note.split(" ")[0] for note in notes] == ([] if share is None else [share])
    assert all("([UNK])" in note for note in notes)
