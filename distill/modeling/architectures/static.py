"""A classifier over pooled static word embeddings as a transformers model."""

from typing import Any

from .small_network import SmallNetwork, SmallNetworkConfig


class StaticConfig(SmallNetworkConfig):
    """Configuration of a classifier over static embeddings, ``hidden_size`` wide."""

    model_type = "distill_static"

    def __init__(self, hidden_size: int = 256, **kwargs: Any):
        super().__init__(hidden_size=hidden_size, **kwargs)


class StaticForSequenceClassification(SmallNetwork):
    """Mean (or maximum) of the tokens' embeddings, then a small head (as model2vec's classifiers).

    The order of words has no effect.
    """

    config_class = StaticConfig

    def __init__(self, config: StaticConfig):
        super().__init__(config, config.hidden_size)
