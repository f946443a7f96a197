"""Losses in chunks of rows: equal to those on whole logits, in value and gradient."""

import pytest
import torch

from distill.modeling.head_rows import HeadRows
from distill.modeling.outputs import ModelOutputs
from distill.objectives.functional.row_chunks import weighted_row_losses
from distill.objectives.objective import Objective
from distill.objectives.terms.divergences import (
    JensenShannon,
    ReverseKL,
    SkewedKL,
    TotalVariation,
)
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.logits_mse import LogitsMSE
from distill.objectives.terms.soft_targets import HardTeacherLabels, SoftCrossEntropy, SoftTargets
from distill.tasks.masked_lm.criterion import MaskedLMCriterion

ROWS, WIDTH, WORDS = 19, 6, 23
TERMS = {
    "kl": lambda: SoftTargets(temperature=2.0),
    "reverse_kl": lambda: ReverseKL(temperature=1.5),
    "jensen_shannon": lambda: JensenShannon(beta=0.3),
    "skewed": lambda: SkewedKL(skew=0.1),
    "skewed_reverse": lambda: SkewedKL(skew=0.1, reverse=True),
    "total_variation": lambda: TotalVariation(),
    "mse": lambda: LogitsMSE(),
    "soft_cross_entropy": lambda: SoftCrossEntropy(),
    "hard_teacher": lambda: HardTeacherLabels(),
    "standardized": lambda: SoftTargets(standardize=True),
    "labels": lambda: HardLabels(),
    "smoothed": lambda: HardLabels(label_smoothing=0.1),
}


def inputs(rows: int = ROWS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "hidden": draw(rows, WIDTH).requires_grad_(),
        "weight": draw(WORDS, WIDTH).requires_grad_(),
        "bias": draw(WORDS).requires_grad_(),
        "teacher": draw(rows, 4),
        "table": draw(WORDS, 4),
        "labels": torch.randint(0, WORDS, (rows,), generator=generator),
    }


def objective(**terms) -> Objective:
    for term in terms.values():
        if isinstance(term, HardLabels):
            term.loss = MaskedLMCriterion().hard_label_loss
    return Objective("test", **terms)


def losses(kind: Objective, given: dict, whole: bool) -> dict[str, torch.Tensor]:
    rows = HeadRows(given["hidden"], given["weight"], given["bias"])
    of_teacher = HeadRows(given["teacher"], given["table"])
    if whole:
        student = ModelOutputs(rows.logits(slice(None)))
        teacher = ModelOutputs(of_teacher.logits(slice(None)))
    else:
        student = ModelOutputs(rows.placeholder, head_rows=rows)
        teacher = ModelOutputs(of_teacher.placeholder, head_rows=of_teacher)
    return kind(student, teacher, {"labels": given["labels"]})


@pytest.mark.parametrize("chunk", (1, 7, ROWS))
@pytest.mark.parametrize("name", TERMS)
def test_chunks_equal_the_whole(name, chunk, monkeypatch):
    monkeypatch.setattr("distill.modeling.head_rows.CHUNK_LOGITS", chunk * WORDS)
    kind, results = objective(term=TERMS[name]()), []
    for whole in (True, False):
        given = inputs()
        of_kind = losses(kind, given, whole)
        (3.0 * of_kind["loss"]).backward()
        slopes = [given[key].grad for key in ("hidden", "weight", "bias")]
        results.append((of_kind["loss"].detach(), *slopes))
    for whole, chunked in zip(*results, strict=True):
        difference = torch.linalg.vector_norm(chunked - whole) / torch.linalg.vector_norm(whole)
        assert difference < 1e-6


def test_terms_share_the_product_and_keep_their_weights():
    terms = {
        "soft_targets": SoftTargets(weight=0.3),
        "hard_labels": HardLabels(weight=0.9),
    }
    kind, whole, chunked = objective(**terms), inputs(), inputs()
    expected, found = losses(kind, whole, True), losses(kind, chunked, False)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-6)
    assert not found["soft_targets"].requires_grad
    expected["loss"].backward()
    found["loss"].backward()
    assert torch.allclose(chunked["weight"].grad, whole["weight"].grad, rtol=1e-5, atol=1e-8)
    with pytest.raises(RuntimeError, match="only once"):
        found["loss"].backward()


def test_without_rows_loss_and_gradient_are_zero():
    given = inputs(rows=0)
    found = losses(objective(soft=SoftTargets(), hard=HardLabels()), given, False)
    found["loss"].backward()
    assert found["loss"] == 0 and found["soft"] == 0
    assert given["hidden"].grad.shape == (0, WIDTH)
    assert (given["weight"].grad == 0).all() and (given["bias"].grad == 0).all()


def test_a_frozen_output_layer_gets_no_gradient():
    given = inputs()
    given["weight"].requires_grad_(False)
    found = losses(objective(soft=SoftTargets()), given, False)
    found["loss"].backward()
    assert given["weight"].grad is None and given["hidden"].grad.abs().sum() > 0


def test_autocast_rounds_the_product_and_nothing_else():
    given = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(objective(soft=SoftTargets(), hard=HardLabels()), given, False)
    found["loss"].backward()
    exact = inputs()
    losses(objective(soft=SoftTargets(), hard=HardLabels()), exact, True)["loss"].backward()
    assert given["weight"].grad.dtype == torch.float32
    for key in ("hidden", "weight", "bias"):
        assert torch.allclose(given[key].grad, exact[key].grad, atol=0.02)
        assert not torch.equal(given[key].grad, exact[key].grad)


def test_the_logits_never_exist_whole():
    """The largest tensor of any operation is a chunk or has the shape of an argument."""
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
            result = operation(*arguments, **(settings or {}))
            for one in result if isinstance(result, tuple | list) else (result,):
                if isinstance(one, torch.Tensor) and one.device.type != "meta":
                    largest.append(one.numel())
            return result

    hidden = torch.randn(200, 4, requires_grad=True)
    weight = torch.randn(50, 4, requires_grad=True)
    rows = HeadRows(hidden, weight)

    def mean_square(logits, part):
        return logits.square().mean().reshape(1)

    with Watch():
        total, _ = weighted_row_losses(
            hidden, weight, None, mean_square, torch.ones(1), rows.chunks(10)
        )
        total.backward()
    assert max(largest) == hidden.numel() == 800  # 10,000 logits
    assert len(rows.chunks(10)) == 20
