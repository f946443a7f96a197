"""Forward passes that return what an objective needs: logits, hidden states, attention.

Queries, keys and values are captured at the layers' own projections. Attention thus needs no eager
kernel, costs nothing but memory, and scores and maps are computed only for the layers that a term
looks at.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.families import attention_projections, config_of
from distill.modeling.forward import forward_at_positions, forward_to_rows
from distill.modeling.inputs import MASK, PIXELS
from distill.modeling.needs import Need
from distill.modeling.outputs import AttentionStates, CombinedModel, ModelOutputs

__all__ = ["AttentionStates", "ModelOutputs", "attention_projections", "forward_with_features"]


def forward_with_features(
    model: nn.Module, inputs: Mapping[str, Tensor], needs: Iterable[str], row_wise: bool = False
) -> ModelOutputs:
    """Run one forward pass and return what the objective needs of it.

    Args:
        model: a transformers model with a head, or an ensemble.
        inputs: the model's inputs.
        needs: see :class:`~distill.modeling.needs.Need`.
        row_wise: whether logits may be left to be computed from ``head_rows``, where they are many.

    Raises:
        UserError: if its attention cannot be captured.
    """
    if isinstance(model, CombinedModel):
        return model.outputs(inputs, needs)
    needs, mask = set(needs), inputs.get(MASK)
    forward = forward_to_rows if row_wise else _forward_whole
    if not needs & {Need.HIDDEN_STATES, Need.ATTENTION, Need.FEATURE_MAPS}:
        result, rows = forward(model, inputs)
        return ModelOutputs(result.logits, mask=mask, head_rows=rows)
    if Need.FEATURE_MAPS in needs:
        result = forward_at_positions(model, inputs, full_sequence=True, output_hidden_states=True)
        maps = named_feature_maps(result.hidden_states, inputs[PIXELS])
        return ModelOutputs(result.logits, feature_maps=maps)
    settings = {"output_hidden_states": True} if Need.HIDDEN_STATES in needs else {}
    if Need.ATTENTION not in needs:
        result, rows = forward(model, inputs, full_sequence=True, **settings)
        hidden, stacks = _hidden_states(result, model)
        return ModelOutputs(result.logits, hidden, mask=mask, stacks=stacks, head_rows=rows)
    with _ProjectionHooks(model) as hooks:
        result, rows = forward(model, inputs, full_sequence=True, **settings)
    hidden, stacks = _hidden_states(result, model) if settings else (None, {})
    return ModelOutputs(result.logits, hidden, hooks.attention(), mask, stacks, head_rows=rows)


def _forward_whole(
    model: nn.Module, inputs: Mapping[str, Tensor], **settings: Any
) -> tuple[Any, None]:
    return forward_at_positions(model, inputs, **settings), None


def named_feature_maps(hidden_states: Iterable[Tensor], pixels: Tensor) -> dict[str, Tensor]:
    """Return the last feature map ``(N, C, H, W)`` of each size, by ``strideN``.

    Args:
        hidden_states: outputs of stages or layers, in order; what is no map is left out.
        pixels: the images that they were computed from, ``(N, C, H, W)``.
    """
    found = {}
    for states in hidden_states or ():
        if states.ndim == 4:
            found[f"stride{max(1, round(pixels.shape[-2] / states.shape[-2]))}"] = states
    return found


class _ProjectionHooks:
    """Captures the output of every layer's projections during one forward pass."""

    def __init__(self, model: nn.Module):
        self.heads = config_of(model).num_attention_heads
        self.layers = attention_projections(model)
        self.captured: list[dict[str, Tensor]] = [{} for _ in self.layers]
        self.handles: list[Any] = []

    def __enter__(self) -> "_ProjectionHooks":
        for modules, captured in zip(self.layers, self.captured, strict=True):
            for kind, module in modules.items():
                self.handles.append(module.register_forward_hook(self._capture(captured, kind)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _capture(self, captured: dict[str, Tensor], kind: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            captured[kind] = output

        return hook

    def attention(self) -> tuple[AttentionStates, ...]:
        assert all(len(captured) == 3 for captured in self.captured), "no attention was captured"
        return tuple(
            AttentionStates(**{kind: self._by_head(value) for kind, value in captured.items()})
            for captured in self.captured
        )

    def _by_head(self, projected: Tensor) -> Tensor:
        count, length, _ = projected.shape
        return projected.view(count, length, self.heads, -1).transpose(1, 2)


def _hidden_states(
    result: Any, model: nn.Module
) -> tuple[tuple[Tensor, ...] | None, dict[str, tuple[Tensor, ...]]]:
    """Return the hidden states of the only stack, or of each of several by name."""
    stacks = {
        name: tuple(states)
        for name in ("encoder", "decoder")
        if (states := getattr(result, f"{name}_hidden_states", None))
    }
    hidden = getattr(result, "hidden_states", None)
    if not hidden and not stacks:
        raise UserError(f"{type(model).__name__} returns no hidden states to compare")
    return (tuple(hidden) if hidden else None), stacks
