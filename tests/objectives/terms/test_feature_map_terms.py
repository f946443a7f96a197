"""Terms on feature maps: which stages, and what they compare."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from transformers import AutoModelForImageClassification

from distill.config.resolvers import conf_dir
from distill.core.errors import UserError
from distill.modeling.features import forward_with_features
from distill.modeling.image_networks import feature_map_sizes, network_config
from distill.modeling.needs import Need
from distill.modeling.outputs import ModelOutputs
from distill.modeling.shape import ModelShape, model_shape
from distill.objectives.pair import ModelPair
from distill.objectives.terms.attention import AttentionMaps
from distill.objectives.terms.feature_maps import AttentionTransfer, Hints
from distill.objectives.terms.hidden_states import HiddenStates
from distill.objectives.terms.relations import (
    ProbabilisticTransfer,
    RKDDistance,
    SimilarityPreserving,
)
from distill.tasks.image_classification import ImageClassification
from tests.factories import composed

TASK = ImageClassification()
PRESETS = sorted(
    file.stem
    for file in (Path(conf_dir()) / "objective").glob("*.yaml")
    if re.search(r"feature_maps\.|vector: (pooled|map)", file.read_text(encoding="utf-8"))
)
SMALL = ModelShape(
    0, 8, 0, convolutional=True, feature_maps={"stride2": (4, 4, 4), "stride4": (8, 2, 2)}
)
LARGE = ModelShape(
    0, 32, 0, convolutional=True,
    feature_maps={"stride1": (8, 8, 8), "stride2": (16, 4, 4), "stride4": (32, 2, 2)},
)  # fmt: skip


def bound(term, student=SMALL, teacher=LARGE):
    torch.manual_seed(0)
    term.bind(ModelPair(TASK, 10, student, {None: teacher}), "objective.term")
    return term


def outputs(shape: ModelShape, seed: int) -> ModelOutputs:
    generator = torch.Generator().manual_seed(seed)
    maps = {
        name: torch.randn(4, *size, generator=generator).requires_grad_()
        for name, size in shape.feature_maps.items()
    }
    return ModelOutputs(torch.zeros(4, 10), feature_maps=maps)


@pytest.mark.parametrize(
    ("stages", "chosen"),
    [("all", ["stride2", "stride4"]), ("last", ["stride4"]), (["stride2"], ["stride2"])],
)
def test_stages_are_matched_by_name(stages, chosen):
    term = bound(AttentionTransfer(stages=stages))
    assert term.chosen == chosen
    student, teacher = outputs(SMALL, 0), outputs(LARGE, 1)
    assert term(student, teacher, {}).item() > 0


@pytest.mark.parametrize(
    ("settings", "student", "message"),
    [
        ({"stages": ["stride1"]}, SMALL, "choose stages that both have: the student has stride2"),
        ({"stages": "first"}, SMALL, "stages=first: choose all, last or a list"),
        ({"stages": []}, SMALL, "choose stages that both have"),
        ({}, ModelShape(2, 8, 2), "the student is no convolutional network"),
        ({}, replace(SMALL, feature_maps={"stride8": (4, 1, 1)}), "no stage of the two"),
        ({}, replace(SMALL, feature_maps={"stride2": (4, 3, 3)}), "no stage of the two"),
    ],
)
def test_stages_that_there_are_not(settings, student, message):
    with pytest.raises(UserError, match=message):
        bound(AttentionTransfer(**settings), student)


def test_hints_project_channels():
    term = bound(Hints())
    assert {name: tuple(conv.weight.shape) for name, conv in term.projections.items()} == {
        "stride2": (16, 4, 1, 1), "stride4": (32, 8, 1, 1),
    }  # fmt: skip
    student, teacher = outputs(SMALL, 0), outputs(LARGE, 1)
    expected = sum(
        F.mse_loss(
            torch.einsum("nchw,dc->ndhw", student.feature_maps[name],
                         term.projections[name].weight[:, :, 0, 0]),
            teacher.feature_maps[name],
        )
        for name in ("stride2", "stride4")
    )  # fmt: skip
    loss = term(student, teacher, {})
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in term.projections.values())
    assert not bound(Hints(), LARGE, LARGE).projections


@pytest.mark.parametrize("cls", [SimilarityPreserving, ProbabilisticTransfer, RKDDistance])
@pytest.mark.parametrize("vector", ["pooled", "map"])
def test_relations_of_maps(cls, vector):
    term = bound(cls(vector=vector))
    assert term.needs == {Need.FEATURE_MAPS} and not term.trains_head
    student, teacher = outputs(SMALL, 0), outputs(LARGE, 1)
    last = [one.feature_maps["stride4"] for one in (student, teacher)]
    vectors = [one.mean((2, 3)) if vector == "pooled" else one.flatten(1) for one in last]
    torch.testing.assert_close(term(student, teacher, {}), term.compare(*vectors))
    with pytest.raises(UserError, match=r"set objective\.term\.vector=logits"):
        bound(cls(vector=vector), ModelShape(2, 8, 2))


def test_relations_of_tokens_are_refused():
    with pytest.raises(UserError, match=r"vector=pooled or logits"):
        bound(RKDDistance(vector="mean"))


@pytest.mark.parametrize("shape", ["vgg_tiny", "resnet8", "resnet_small", "convnext_atto"])
def test_the_maps_are_those_that_were_announced(shape):
    config = network_config(shape, {}, "student", (32, 32), 3)
    said = feature_map_sizes(config, (32, 32), 3)
    model = AutoModelForImageClassification.from_config(config).eval()
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32)}
    with torch.no_grad():
        found = forward_with_features(model, inputs, {Need.FEATURE_MAPS})
        logits = model(**inputs).logits
    assert {name: tuple(one.shape[1:]) for name, one in found.feature_maps.items()} == said
    torch.testing.assert_close(found.logits, logits)
    strides = [int(name.removeprefix("stride")) for name in said]
    assert strides == sorted(strides)
    assert all(32 // stride == size[1] for stride, size in zip(strides, said.values(), strict=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_a_step(preset):
    objective = instantiate(composed(f"objective={preset}").objective, _convert_="all")
    configs = [network_config(shape, {}, "student", (8, 8), 3)
               for shape in ("vgg_tiny", "resnet8")]  # fmt: skip
    shapes = [
        replace(model_shape(config), feature_maps=feature_map_sizes(config, (8, 8), 3))
        for config in configs
    ]
    objective.bind(ModelPair(TASK, 2, shapes[0], {None: shapes[1]}))
    student, teacher = (AutoModelForImageClassification.from_config(config) for config in configs)
    inputs = {"pixel_values": torch.randn(6, 3, 8, 8)}
    with torch.no_grad():
        given = forward_with_features(teacher.eval(), inputs, objective.needs)
    own = forward_with_features(student, inputs, objective.needs)
    losses = objective(own, given, {"labels": torch.tensor([0, 1] * 3)})
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    trained = [*student.parameters(), *objective.parameters()]
    assert all(one.grad is not None and one.grad.isfinite().all() for one in trained)


@pytest.mark.parametrize(
    "term",
    [
        HiddenStates(), HiddenStates(measure="cosine", embeddings=True), AttentionMaps(),
        RKDDistance(vector="mean"), RKDDistance(vector="first"),
    ],
    ids=lambda term: type(term).__name__,
)  # fmt: skip
def test_terms_of_tokens_compare_the_patches_of_transformers(term):
    """Patches are never padded: every one counts, as tokens do where the mask is of ones."""
    config = network_config("vit_small_images", {"num_hidden_layers": 2}, "student", (8, 8), 3)
    shape = model_shape(config)
    assert not shape.convolutional
    term.bind(ModelPair(TASK, 2, shape, {None: shape}), "objective.term")
    own, given = (AutoModelForImageClassification.from_config(config).eval() for _ in range(2))
    inputs = {"pixel_values": torch.randn(3, 3, 8, 8)}
    student, teacher = (forward_with_features(one, inputs, term.needs) for one in (own, given))
    loss = term(student, teacher, {})
    assert loss.item() > 0
    patches = 1 + (8 // 4) ** 2
    masked = replace(student, mask=torch.ones(3, patches))
    torch.testing.assert_close(loss, term(masked, teacher, {}))


def test_a_transformer_has_none():
    config = network_config("vit_small_images", {}, "student", (32, 32), 3)
    assert feature_map_sizes(config, (32, 32), 3) == {}
