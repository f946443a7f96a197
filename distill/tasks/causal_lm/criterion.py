"""Next tokens as distributions over the vocabulary."""

from distill.tasks.masked_lm.criterion import MaskedLMCriterion


class CausalLMCriterion(MaskedLMCriterion):
    """Softmax over the vocabulary at every position that predicts a token."""
