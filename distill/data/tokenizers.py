"""distill.data.tokenizers"""

import hashlib
import json

from transformers import PreTrainedTokenizerBase


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that determines what a tokenizer gives a model."""
    parts = [
        type(tokenizer).__name__,
        *_tokenizer_state(tokenizer),
        str(tokenizer.model_input_names),
    ]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def same_tokenization(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers turn every text into the same ids."""
    return _tokenizer_state(first) == _tokenizer_state(second)


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    # What the last call asked for, not what the tokenizer is.
    state = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
    content = json.dumps(state, sort_keys=True)
    special = sorted(map(str, tokenizer.special_tokens_map.items()))
    return content, str(special)
