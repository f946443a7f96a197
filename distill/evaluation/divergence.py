"""Divergence of two models' distributions over a vocabulary, without keeping either."""

import torch
from torch import nn

from distill.data.dataset import DistillationDataset
from distill.modeling.forward import forward_to_rows
from distill.modeling.outputs import ModelOutputs
from distill.objectives.functional.soft_targets import soft_target_kl

BATCH = 32
ROWS = 256


@torch.inference_mode()
def mean_divergence(
    teacher: nn.Module,
    teacher_examples: DistillationDataset,
    student: nn.Module,
    student_examples: DistillationDataset,
) -> float | None:
    r"""Run two models on a split and compare their distributions position by position.

    .. math:: \frac{1}{U} \sum_u KL(p^t_u \| p^s_u)

    Args:
        teacher: a model with logits at the positions of its examples.
        teacher_examples: the split as the teacher reads it.
        student: the other model.
        student_examples: the split as the student reads it, with as many positions.

    Returns:
        The mean over all positions in nats, in evaluation mode and fp32; ``None`` without any.
    """
    total, count = 0.0, 0
    models = teacher.eval(), student.eval()
    for start in range(0, len(student_examples), BATCH):
        indices = list(range(start, min(start + BATCH, len(student_examples))))
        outputs = []
        for model, examples in zip(models, (teacher_examples, student_examples), strict=True):
            device = next(model.parameters()).device
            batch = {key: value.to(device) for key, value in examples[indices]["student"].items()}
            result, rows = forward_to_rows(model, batch)
            outputs.append(ModelOutputs(result.logits, head_rows=rows))
        positions = len(outputs[0].logits)
        assert positions == len(outputs[1].logits), "both models read the same tokens"
        for first in range(0, positions, ROWS):
            of_teacher, of_student = (
                one.at_rows(slice(first, first + ROWS)).logits for one in outputs
            )
            divergence = soft_target_kl(of_student, of_teacher.to(of_student.device), 1.0)
            total += float(divergence) * len(of_student)
        count += positions
    return total / count if count else None
