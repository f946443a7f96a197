"""Students that transformers has no class for, one self-contained file each.

A saved student carries its file: transformers loads it anywhere with ``trust_remote_code=True``,
and this program, which has them registered, without. Hence the files import torch and transformers
alone.
"""

from transformers import AutoConfig, AutoModelForSequenceClassification

from distill.student.nets.bilstm import BiLstmConfig, BiLstmForSequenceClassification
from distill.student.nets.static import StaticConfig, StaticForSequenceClassification

for config, model in (
    (BiLstmConfig, BiLstmForSequenceClassification),
    (StaticConfig, StaticForSequenceClassification),
):
    AutoConfig.register(config.model_type, config)
    AutoModelForSequenceClassification.register(config, model)
    config.register_for_auto_class()
    model.register_for_auto_class("AutoModelForSequenceClassification")
