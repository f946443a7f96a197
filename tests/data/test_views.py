"""Views of images: the same for everyone who asks for them."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.data.preprocessor import Field
from distill.data.sampler import BatchIndices
from distill.data.views import ImageViews, LogitsByView

COUNT = 400
KEYS = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, COUNT).tolist()


def views(side: int = 16, count: int = 4, mirrors: bool = True) -> ImageViews:
    return ImageViews("pixels", "key", (3, side, side), count, mirrors)


def rows(side: int = 16, count: int = COUNT) -> dict:
    images = np.random.default_rng(1).integers(1, 256, (count, 3, side, side), dtype=np.uint8)
    return {"pixels": [image.tobytes() for image in images], "key": KEYS[:count]}


def as_arrays(seen: dict, side: int = 16) -> np.ndarray:
    return np.stack(
        [np.frombuffer(image, np.uint8).reshape(3, side, side) for image in seen["pixels"]]
    )


def shift_of(image: np.ndarray, seen: np.ndarray) -> tuple[int, int, bool]:
    """The only shift of up to two pixels, mirrored or not, that makes one of the other."""
    found = []
    for mirrored in (False, True):
        turned = image[:, :, ::-1] if mirrored else image
        padded = np.pad(turned, ((0, 0), (2, 2), (2, 2)))
        for down in range(-2, 3):
            for right in range(-2, 3):
                part = padded[:, 2 - down : 18 - down, 2 - right : 18 - right]
                if np.array_equal(part, seen):
                    found.append((down, right, mirrored))
    (only,) = found
    return only


def test_views_are_shifted_and_mirrored_with_black_around():
    given = rows()
    seen = as_arrays(views().with_view(1)(given, None))
    steps = [shift_of(image, one) for image, one in zip(as_arrays(given), seen, strict=True)]
    down, right, mirrored = (np.array(part) for part in zip(*steps, strict=True))
    for part in (down, right):  # the ends are half as wide as the others
        counts = np.bincount(part + 2, minlength=5) / COUNT
        assert np.abs(counts - [0.125, 0.25, 0.25, 0.25, 0.125]).max() < 0.07
    assert abs(mirrored.mean() - 0.5) < 0.08
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.15
    plain = as_arrays(views(mirrors=False).with_view(1)(given, None))
    assert not any(
        shift_of(image, one)[2] for image, one in zip(as_arrays(given), plain, strict=True)
    )


def test_each_view_of_an_image_differs_and_stays_the_same():
    given = rows()
    first, again, other = (
        as_arrays(views().with_view(number)(given, seed))
        for number, seed in ((0, None), (0, (7, 3)), (1, None))
    )
    assert np.array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9
    one = {name: column[5:6] for name, column in given.items()}
    assert np.array_equal(as_arrays(views().with_view(0)(one, None))[0], first[5])


def test_a_pass_draws_one_of_the_views():
    given, drawing = rows(), views()
    numbers = drawing.numbers(given, (0, 0))
    assert np.abs(np.bincount(numbers, minlength=4) / COUNT - 0.25).max() < 0.07
    for other in ((0, 1), (1, 0)):
        assert 0.6 < (drawing.numbers(given, other) != numbers).mean() < 0.9
    seen = as_arrays(drawing(given, (0, 0)))
    for number in range(4):
        fixed = as_arrays(drawing.with_view(number)(given, None))
        assert np.array_equal(seen[numbers == number], fixed[numbers == number])


def test_an_evaluation_sees_the_images_themselves():
    given = rows()
    assert views().numbers(given, None) is None
    assert views()(given, None) == given


def test_another_size_has_the_same_view():
    """Teacher and student may read images at different sizes."""
    large, small = (
        np.kron(np.eye(4)[None].repeat(3, 0), np.ones((1, side // 4, side // 4)))
        for side in (32, 16)
    )
    for number in range(6):
        seen = [
            as_arrays(
                views(side).with_view(number)(
                    {"pixels": [(image * 200).astype(np.uint8).tobytes()], "key": KEYS[:1]}, None
                ), side,
            )[0]
            for side, image in ((32, large), (16, small))
        ]  # fmt: skip
        reduced = seen[0].reshape(3, 16, 2, 16, 2).mean((2, 4))
        assert np.abs(reduced - seen[1].astype(float)).mean() < 20  # a pixel of rounding
    assert (
        views(32).numbers({"key": KEYS}, (1, 2)).tolist()
        == views(16).numbers({"key": KEYS}, (1, 2)).tolist()
    )


class Mean(nn.Module):
    """A teacher whose logits tell the view: sums of the left and the upper half."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([pixels[..., :8].sum((1, 2, 3)), pixels[:, :, :8].sum((1, 2, 3))], 1)


def decode(column) -> np.ndarray:
    return np.stack([np.frombuffer(one, np.uint8) for one in column]).reshape(
        -1, 3, 16, 16
    ).astype(np.float32)  # fmt: skip


@pytest.fixture
def split() -> Dataset:
    given = rows(count=30)
    return Dataset.from_dict({**given, "label": [0] * 30, "length": [1] * 30})


def collator(drawn=None) -> PaddingCollator:
    field = Field("pixels", padded=False, dtype="float32", decode=decode)
    return PaddingCollator((field,), views=drawn or views())


def test_stored_outputs_are_those_of_the_view_that_is_seen(split):
    stored = LogitsByView(
        [
            Mean()(DistillationDataset(split, collator().with_view(number))[list(range(30))][
                "student"]["pixels"]).numpy()
            for number in range(4)
        ]
    )  # fmt: skip
    assert len(stored) == 30
    dataset = DistillationDataset(
        split, collator(), teacher=split, collate_teacher=collator(), teacher_logits=stored
    )
    for number in range(3):
        batch = dataset[BatchIndices([3, 1, 29, 17, 8], pass_seed=(5, number))]
        pixels = batch["student"]["pixels"]
        assert torch.equal(pixels, batch["teacher"]["pixels"])
        assert torch.equal(Mean()(pixels), batch["teacher_logits"])
