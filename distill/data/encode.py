"""distill.data.encode"""

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from distill.core.cache import cache_key, file_lock
from distill.core.errors import UserError
from distill.data.tokenizers import tokenizer_hash


def encode_split(
    rows: Dataset,
    content: str,
    tokenizer: PreTrainedTokenizerBase,
    task,
    max_length: int,
    cache_dir: Path,
) -> Dataset:
    """Tokenise a split once; a later call with the same content maps the stored file.

    Args:
        rows: examples with the task's columns and ``label``.
        content: hash of their content.
        tokenizer: any tokenizer.
        task: its ``encode_split`` turns rows into ids and labels.
        max_length: tokens an example is cut to.
        cache_dir: where the result is kept.

    Returns:
        Memory-mapped rows with the tokenizer's ids, ``label`` and ``length``.

    Raises:
        UserError: if the task leaves out every row.
    """
    key = cache_key(
        kind="encoded", format=1, content=content, tokenizer=tokenizer_hash(tokenizer),
        task=task.encoding, max_length=max_length,
    )  # fmt: skip

    def tokenise(batch: Mapping[str, list], indices: list[int]) -> dict[str, list]:
        encoded = task.encode(tokenizer, {**batch, "row": indices}, max_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        return encoded | {"length": lengths}

    file = cache_dir / "encoded" / f"{key}.arrow"
    with file_lock(file):
        encoded = rows.map(
            tokenise,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            cache_file_name=str(file),
            new_fingerprint=key,
        )
    if not len(encoded):
        raise UserError(
            f"nothing is left of a split of {len(rows)}, which begins with "
            f"'{task.plain(rows[0]['text'])[:40]}': {type(tokenizer).__name__} knows no token of it"
        )
    return encoded
