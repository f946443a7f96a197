"""Splits encoded for one model, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.collate import PaddingCollator
from distill.data.prepare import PreparedData
from distill.data.preprocessor import LENGTH, BatchTransform, Preprocessor
from distill.data.schema import DataSchema

ROWS = "rows.arrow"


def encode_split(
    rows: Dataset,
    content: str,
    processor: Any,
    preprocessor: Preprocessor[Any],
    schema: DataSchema,
    max_length: int,
    cache_dir: Path,
) -> Dataset:
    """Encode a split, or map the stored file if the same content was encoded before.

    Args:
        rows: prepared rows.
        content: hash of their content.
        processor: processor of the model.
        preprocessor: encodes the rows.
        schema: names the inputs, for messages.
        max_length: maximum number of tokens of an example.
        cache_dir: where the result is kept.

    Returns:
        Memory-mapped rows with the encoded fields, ``label`` and ``length``.

    Raises:
        UserError: if no example is left.
    """
    key = cache_key(
        kind="encoded", format=1, content=content, tokenizer=preprocessor.processor_hash(processor),
        task=preprocessor.cache_key, max_length=max_length,
    )  # fmt: skip

    def encode(batch: Mapping[str, list], indices: list[int]) -> dict[str, list]:
        encoded = preprocessor.encode(processor, {**batch, "row": indices}, max_length)
        return encoded | {LENGTH: preprocessor.cost(encoded)}

    def create(partial: Path) -> None:
        encoded = rows.map(
            encode,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            cache_file_name=str(partial / ROWS),
            load_from_cache_file=False,
            new_fingerprint=key,
        )
        if not len(encoded):
            role, kind = next(iter(schema.inputs.items()))
            raise UserError(
                f"no example is left of a split of {len(rows)}, which begins with "
                f"'{kind.key(rows[0][role])[:40]}': {type(processor).__name__} knows no token of it"
            )

    folder = cache_dir / "encoded" / key
    get_or_create(folder, create)
    return Dataset.from_file(str(folder / ROWS))


@dataclass(frozen=True)
class SplitEncoder:
    """Encodes the splits of prepared data for any model of a task.

    Attributes:
        data: the prepared splits.
        schema: columns and labels of the task.
        preprocessor: encoding of the task.
        cache_dir: where encoded splits are kept.
    """

    data: PreparedData
    schema: DataSchema
    preprocessor: Preprocessor[Any]
    cache_dir: Path

    def encode(self, split: str, processor: Any, max_length: int) -> Dataset:
        """Encode a split with a model's processor, see :func:`encode_split`."""
        return encode_split(
            self.data.splits[split], self.data.hashes[split], processor, self.preprocessor,
            self.schema, max_length, self.cache_dir,
        )  # fmt: skip

    def collator(self, processor: Any, transform: BatchTransform | None = None) -> PaddingCollator:
        """Return the collator of a model's fields."""
        fields, views = self.preprocessor.fields(processor), self.preprocessor.views(processor)
        return PaddingCollator(fields, transform, views)
