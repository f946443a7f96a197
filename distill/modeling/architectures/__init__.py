"""Architectures that transformers does not have, one self-contained file each.

A saved student contains its file: transformers loads it anywhere with ``trust_remote_code=True``,
and this package, which registers the classes, without. The files therefore import torch and
transformers alone.
"""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from distill.modeling.architectures.bilstm import BiLstmConfig, BiLstmForSequenceClassification
from distill.modeling.architectures.cifar_resnet import (
    CifarResNetConfig,
    CifarResNetForImageClassification,
)
from distill.modeling.architectures.cnn import (
    CnnConfig,
    CnnForSequenceClassification,
    CnnForTokenClassification,
)
from distill.modeling.architectures.compact import CLASSES, FAMILIES
from distill.modeling.architectures.ngram import NgramConfig, NgramForSequenceClassification
from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.modeling.architectures.vgg import VggConfig, VggForImageClassification
from distill.modeling.families import COMPACT_PREFIX

# Compact variants by the family's model_type: configuration class, and model classes by head.
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
    "ForImageClassification": AutoModelForImageClassification,
}

_CLASSES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (BiLstmConfig, {"ForSequenceClassification": BiLstmForSequenceClassification}),
    (
        CnnConfig,
        {
            "ForSequenceClassification": CnnForSequenceClassification,
            "ForTokenClassification": CnnForTokenClassification,
        },
    ),
    (NgramConfig, {"ForSequenceClassification": NgramForSequenceClassification}),
    (StaticConfig, {"ForSequenceClassification": StaticForSequenceClassification}),
    (VggConfig, {"ForImageClassification": VggForImageClassification}),
    (CifarResNetConfig, {"ForImageClassification": CifarResNetForImageClassification}),
    *COMPACT.values(),
)
for config, models in _CLASSES:
    AutoConfig.register(config.model_type, config)
    config.register_for_auto_class()
    for head, model in models.items():
        _AUTO[head].register(config, model)
        model.register_for_auto_class(_AUTO[head].__name__)
