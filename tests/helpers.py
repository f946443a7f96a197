"""Encoded examples without the whole program around them."""

import numpy as np
import torch
from datasets import Dataset

from distill.data.dataset import DistillationDataset
from tests.conftest import sentences


def encoded(tokenizer, count: int, seed: int = 1) -> Dataset:
    rows = sentences(count, seed)
    ids = tokenizer([row["text"] for row in rows], return_attention_mask=False)
    labels = [int(row["label"] == "positive") for row in rows]
    lengths = [len(one) for one in ids["input_ids"]]
    return Dataset.from_dict({**ids, "label": labels, "length": lengths})


def teacher_logits(teacher, rows: Dataset, collate) -> np.ndarray:
    """One example at a time, in order: nothing shared with the program's own pass."""
    batches = DistillationDataset(rows, collate)
    with torch.no_grad():
        return np.concatenate(
            [teacher(**batches[[i]]["student"]).logits.numpy() for i in range(len(rows))]
        )
