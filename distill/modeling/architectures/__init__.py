"""Students that transformers has no class for, one self-contained file each.

A saved student carries its file: transformers loads it anywhere with ``trust_remote_code=True``,
and this program, which has them registered, without. Hence the files import torch and transformers
alone.
"""

from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from distill.modeling.architectures.bilstm import BiLstmConfig, BiLstmForSequenceClassification
from distill.modeling.architectures.compact import CLASSES, FAMILIES
from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.modeling.families import COMPACT_PREFIX

# What can hold shapes that a family's own classes cannot, by the family's model_type: its
# configuration, and its models by the end of their names, their head.
COMPACT = {
    config.model_type.removeprefix(COMPACT_PREFIX): (
        config,
        {head: model for (kind, head), model in CLASSES.items() if kind == config.model_type},
    )
    for config, _ in FAMILIES
}
_AUTO = {
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
    "ForMaskedLM": AutoModelForMaskedLM,
}

for config, models in (
    (BiLstmConfig, {"ForSequenceClassification": BiLstmForSequenceClassification}),
    (StaticConfig, {"ForSequenceClassification": StaticForSequenceClassification}),
    *COMPACT.values(),
):
    AutoConfig.register(config.model_type, config)
    config.register_for_auto_class()
    for head, model in models.items():
        _AUTO[head].register(config, model)
        model.register_for_auto_class(_AUTO[head].__name__)
