"""Students that transformers has no class for, one self-contained file each.

A saved student carries its file: transformers loads it anywhere with ``trust_remote_code=True``,
and this program, which has them registered, without. Hence the files import torch and transformers
alone.
"""

from transformers import AutoConfig, AutoModelForSequenceClassification

from distill.student.nets.bilstm import BiLstmConfig, BiLstmForSequenceClassification
from distill.student.nets.compact import (
    CompactBertConfig,
    CompactBertForSequenceClassification,
    CompactElectraConfig,
    CompactElectraForSequenceClassification,
    CompactRobertaConfig,
    CompactRobertaForSequenceClassification,
)
from distill.student.nets.static import StaticConfig, StaticForSequenceClassification

# How the model_type of a compact model begins; the family's own follows.
PREFIX = "distill_compact_"
# The class that can hold what a family's own cannot, by the family's model_type.
COMPACT = {
    "bert": (CompactBertConfig, CompactBertForSequenceClassification),
    "roberta": (CompactRobertaConfig, CompactRobertaForSequenceClassification),
    "electra": (CompactElectraConfig, CompactElectraForSequenceClassification),
}

for config, model in (
    (BiLstmConfig, BiLstmForSequenceClassification),
    (StaticConfig, StaticForSequenceClassification),
    *COMPACT.values(),
):
    AutoConfig.register(config.model_type, config)
    AutoModelForSequenceClassification.register(config, model)
    config.register_for_auto_class()
    model.register_for_auto_class("AutoModelForSequenceClassification")
