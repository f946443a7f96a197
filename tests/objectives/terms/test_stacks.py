"""Models with several stacks of layers: a term names the one that it compares."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from distill.core.errors import UserError
from distill.modeling.families import layer_stack, layer_stacks
from distill.modeling.features import forward_with_features
from distill.modeling.needs import Need
from distill.modeling.shape import model_shape
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hidden_states import HiddenStates
from distill.tasks.sequence_classification import SequenceClassification

TASK = SequenceClassification()


def t5(encoder: int, decoder: int) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=encoder,
        num_decoder_layers=decoder, num_heads=2, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


@pytest.fixture
def inputs():
    draw = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(2, 40, (2, 6), generator=draw),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
        "decoder_input_ids": torch.randint(2, 40, (2, 6), generator=draw),
    }


def test_both_stacks_are_found_by_name():
    stacks = layer_stacks(t5(3, 2))
    assert {name: len(stack.layers) for name, stack in stacks.items()} == {
        "encoder": 3, "decoder": 2,
    }  # fmt: skip
    assert layer_stack(t5(3, 2), "decoder").path == "decoder.block"
    with pytest.raises(UserError, match="no single stack"):
        layer_stack(t5(3, 2))
    with pytest.raises(UserError, match="no stack of layers called body: encoder, decoder"):
        layer_stack(t5(3, 2), "body")


@pytest.mark.parametrize(("stack", "layers"), [("encoder", (2, 4)), ("decoder", (1, 3))])
def test_a_term_compares_the_stack_that_it_names(stack, layers, inputs):
    student, teacher = t5(2, 1), t5(4, 3)
    term = HiddenStates(stack=stack)
    pair = ModelPair(TASK, 2, model_shape(student.config), {None: model_shape(teacher.config)})
    term.bind(pair, "objective.hidden")
    assert len(term.pairs) == layers[0] and term.pairs[-1] == layers
    student_outputs, teacher_outputs = (
        forward_with_features(model, inputs, {Need.HIDDEN_STATES}) for model in (student, teacher)
    )
    with torch.no_grad():
        expected = sum(
            (a - b).square().mean()
            for a, b in (
                (student_outputs.stacks[stack][i], teacher_outputs.stacks[stack][j])
                for i, j in term.pairs
            )
        )
    torch.testing.assert_close(term(student_outputs, teacher_outputs, {}), expected)
    whole = student(**inputs, output_hidden_states=True)
    assert torch.equal(student_outputs.stacks["decoder"][-1], whole.decoder_hidden_states[-1])


def test_a_term_that_names_none_is_refused():
    shape = model_shape(t5(2, 1).config)
    pair = ModelPair(TASK, 2, shape, {None: shape})
    with pytest.raises(UserError, match="has several stacks of layers, name one: encoder, decoder"):
        HiddenStates().bind(pair, "objective.hidden")
    with pytest.raises(UserError, match="has no stack called middle"):
        HiddenStates(stack="middle").bind(pair, "objective.hidden")
