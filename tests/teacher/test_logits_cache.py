import numpy as np
import pytest
import torch

from distill.core.checksums import write_checksums
from distill.core.hardware import Hardware
from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.modeling.loading import weights_hash
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.logits_cache import ConcatLogits, cached_logits
from distill.teacher.prepare import Teacher
from tests.factories import collator, encoded, make_model, teacher_logits

HARDWARE = Hardware(torch.device("cpu"), "32-true")


@pytest.fixture
def call(tokenizer, tmp_path):
    rows = encoded(tokenizer, 50)
    batches = DistillationDataset(rows, collator(tokenizer))

    def run(model, content="content", length=24, hardware=HARDWARE):
        teacher = Teacher("t", model, tokenizer, weights_hash(model), 0.0, True)
        return cached_logits(
            teacher, batches, content, SequenceClassification().preprocessor, length, hardware,
            tmp_path,
        )  # fmt: skip

    run.rows, run.collate = rows, batches.collate
    return run


def test_are_the_teachers_logits_by_example(call):
    model = make_model().eval()
    logits, seconds, reused = call(model)
    assert isinstance(logits, np.memmap)
    assert logits.dtype == np.float32
    assert not reused
    assert seconds > 0
    np.testing.assert_allclose(logits, teacher_logits(model, call.rows, call.collate), atol=1e-5)


def test_dropout_is_off_even_if_the_teacher_came_in_training_mode(call):
    model = make_model().train()
    logits, _, _ = call(model)
    np.testing.assert_allclose(
        logits, teacher_logits(model.eval(), call.rows, call.collate), atol=1e-5
    )


def test_each_example_is_computed_once_and_then_never_again(call):
    model = make_model().eval()
    seen = []
    model.register_forward_hook(lambda *a: seen.append(len(a[2].logits)))
    call(model)
    assert sum(seen) == 50
    seen.clear()
    _, seconds, reused = call(model)
    assert reused
    assert seconds == 0
    assert sum(seen) == 8  # the spot check


@pytest.mark.parametrize("what", ["weights", "content", "length"])
def test_whatever_changes_the_outputs_changes_the_key(call, what):
    model = make_model().eval()
    call(model)
    changed = {"model": model}
    if what == "weights":
        with torch.no_grad():
            model.classifier.bias[0] += 1e-6
    elif what == "content":
        changed["content"] = "other"
    else:
        changed["length"] = 23
    assert not call(**changed)[2]


def test_the_precision_of_training_makes_no_difference(call):
    """Stored outputs are fp32: half precision would leave them a handful of distinct values."""
    model = make_model().eval()
    logits, *_ = call(model)
    again, _, reused = call(model, hardware=Hardware(torch.device("cpu"), "bf16-mixed"))
    assert reused
    assert np.array_equal(logits, again)


def damage(values):
    flipped = values.copy()
    flipped.view(np.uint32)[25, 0] ^= 1
    scaled = values.copy()
    scaled[11] *= -3
    missing = values.copy()
    missing[30] = np.nan
    return {"bit": flipped, "row": scaled, "nan": missing, "short": values[:-1], "other": values.T}


@pytest.mark.parametrize("what", damage(np.ones((50, 2), np.float32)))
def test_a_damaged_file_is_computed_anew(call, tmp_path, caplog, what):
    model = make_model().eval()
    before = np.array(call(model)[0])
    np.save(next(tmp_path.glob("outputs/*/logits.npy")), damage(before)[what])
    logits, _, reused = call(model)
    assert not reused
    assert np.array_equal(logits, before)
    assert "damaged (logits.npy" in caplog.text


@pytest.mark.parametrize("what", ["all", "short"])
def test_what_another_version_has_computed_is_computed_anew(call, tmp_path, caplog, what):
    """Its file is whole, so only the values tell."""
    model = make_model().eval()
    before = np.array(call(model)[0])
    file = next(tmp_path.glob("outputs/*/logits.npy"))
    np.save(file, before + 1 if what == "all" else before[:-1])
    write_checksums(file.parent, file.parent.name)
    logits, _, reused = call(model)
    assert not reused
    assert np.array_equal(logits, before)
    assert "no longer the teacher's" in caplog.text


def test_an_interrupted_pass_leaves_nothing_that_looks_whole(call, monkeypatch):
    model = make_model().eval()
    from distill.teacher import logits_cache

    def broken(*arguments, **settings):
        yield from list(original(*arguments, **settings))[:1]
        raise KeyboardInterrupt

    original = logits_cache.iter_logits
    monkeypatch.setattr(logits_cache, "iter_logits", broken)
    with pytest.raises(KeyboardInterrupt):
        call(model)
    monkeypatch.setattr(logits_cache, "iter_logits", original)
    logits, _, reused = call(model)
    assert not reused
    np.testing.assert_allclose(logits, teacher_logits(model, call.rows, call.collate), atol=1e-5)


def test_joined_splits_of_several_teachers_read_as_one():
    draw = np.random.default_rng(0)
    splits = [[draw.normal(size=(n, 3)).astype(np.float32) for n in (5, 2, 4)] for _ in range(2)]
    indices = [10, 0, 5, 4, 6, 7, 0]
    one, both = ConcatLogits(splits[:1], stacked=False), ConcatLogits(splits, stacked=True)
    whole = [np.concatenate(of_teacher) for of_teacher in splits]
    assert len(one) == 11
    assert np.array_equal(one[indices], whole[0][indices])
    assert np.array_equal(both[indices], np.stack(whole, 1)[indices])


def test_joined_splits_of_several_rows_an_example_read_as_one():
    draw = np.random.default_rng(0)
    counts = [np.array([2, 1, 3]), np.array([1, 2])]
    splits = [
        [JaggedArray(draw.normal(size=(n.sum(), 3)).astype(np.float32), n) for n in counts]
        for _ in range(2)
    ]
    indices = [4, 0, 2, 3, 0]
    one, both = ConcatLogits(splits[:1], stacked=False), ConcatLogits(splits, stacked=True)
    whole = [[row for split in of_teacher for row in split.split()] for of_teacher in splits]
    assert len(one) == 5
    assert np.array_equal(one[indices], np.concatenate([whole[0][index] for index in indices]))
    assert np.array_equal(
        both[indices],
        np.stack([np.concatenate([own[index] for index in indices]) for own in whole], axis=1),
    )
