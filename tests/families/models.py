"""Tiny models of thirteen families, with a tokenizer of their own kind, untrained."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from tests.factories import BAD, FILLER, GOOD, make_tokenizer

WORDS = FILLER + GOOD + BAD
USUAL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
# Settings beside the usual ones. Position ids of RoBERTa's kin start after the padding id.
SETTINGS = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pooler_hidden_size": 32,
    },
    "deberta": {
        "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
        "pooler_hidden_size": 32,
    },
    "xlm-roberta": {"type_vocab_size": 1},
    "mpnet": {},
    "modernbert": {
        "global_attn_every_n_layers": 2, "local_attention": 16, "num_hidden_layers": 4,
        "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
    },
    "mobilebert": {
        "embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1,
        "true_hidden_size": 16,
    },
    "convbert": {"embedding_size": 32, "head_ratio": 1, "conv_kernel_size": 3},
    "longformer": {"attention_window": [8, 8], "type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
}  # fmt: skip
FAMILIES = tuple(SETTINGS)
# Families whose tokenizers write <s> A </s></s> B </s> and have no token types.
ROBERTA_LIKE = ("roberta", "xlm-roberta", "mpnet", "longformer", "camembert")


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: index for index, token in enumerate(special + WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>",
        sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_family(family: str, folder: Path, **settings) -> Path:
    """Save a pretrained model of a family without a head for classes; return its folder."""
    like_roberta = family in ROBERTA_LIKE
    tokenizer = roberta_tokenizer() if like_roberta else make_tokenizer(WORDS)
    config = AutoConfig.for_model(
        family,
        **(
            {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
            | USUAL
            | SETTINGS[family]
            | settings
        ),
    )
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
