"""Choice of the unlabeled texts that are nearest to the labeled ones."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.columns import content_hash, iter_chunks
from distill.data.schema import DataSchema, TextInput
from distill.data.text_preprocessor import tokenizer_hash
from distill.modeling import loading
from distill.modeling.packed_linear import pack_linears

log = logging.getLogger(__name__)

# Number of texts per forward pass, and of products of two texts in memory at a time.
BATCH_SIZE, MAX_PRODUCTS = 64, 2**26
LOG_INTERVAL_SECONDS = 30.0


@dataclass(frozen=True)
class TextEncoder:
    """Sentence vectors: the mean of a model's last hidden states over the tokens, of length 1.

    This is how sentence encoders such as all-MiniLM-L6-v2 are read (Reimers and Gurevych 2019,
    "Sentence-BERT", section 3). Of a model that was not trained for it, near texts share words
    rather than topics.

    Attributes:
        path: the model as the user names it.
        max_length: maximum number of tokens that are read of a text.
        cache_dir: where vectors are kept.
    """

    path: str
    max_length: int
    cache_dir: Path
    model: PreTrainedModel = field(init=False, repr=False)
    tokenizer: PreTrainedTokenizerBase = field(init=False, repr=False)
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        option = f"data.unlabeled_encoder={self.path}"
        path = loading.resolve_model_path(self.path, "data.unlabeled_encoder")
        loading.check_max_length(loading.load_config(path, option), self.max_length)
        tokenizer = loading.load_tokenizer(path, option)
        try:
            # A pooling layer that the checkpoint lacks is drawn at random, but always the same: it
            # is not read, and the hash must not change by it.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModel.from_pretrained(
                    path, dtype=torch.float32, trust_remote_code=False, weights_only=True
                )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{option} cannot be loaded: {reason}") from error
        for name, value in (("model", model.eval()), ("tokenizer", tokenizer)):
            object.__setattr__(self, name, value)
        object.__setattr__(
            self, "hash", f"{loading.weights_hash(model)}-{tokenizer_hash(tokenizer)}"
        )

    def encode(self, rows: Dataset, schema: DataSchema, description: str) -> np.ndarray:
        """Return the vectors of rows, ``(N, D)`` fp32, from the cache or computed once.

        Args:
            rows: rows with the schema's input columns; several texts of a row are joined.
            schema: names the inputs.
            description: what the log calls the rows.
        """
        key = cache_key(
            kind="sentence_vectors", format=1, model=self.hash, content=content_hash(rows),
            max_length=self.max_length,
        )  # fmt: skip
        folder = self.cache_dir / "vectors" / key

        def compute(partial: Path) -> None:
            log.info("data: computing vectors of %d texts of %s", len(rows), description)
            np.save(partial / "vectors.npy", self._compute(_texts(rows, schema)))

        get_or_create(folder, compute)
        vectors: np.ndarray = np.load(folder / "vectors.npy", mmap_mode="r")
        return vectors

    @torch.no_grad()
    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model: torch.nn.Module = self.model
        model.to(device)
        pack_linears(model)
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        # Texts of like length share a batch.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        logged = time.monotonic()
        for start in range(0, len(order), BATCH_SIZE):
            indices = order[start : start + BATCH_SIZE]
            batch = self.tokenizer(
                [texts[index] for index in indices], padding=True, truncation=True,
                max_length=self.max_length, return_tensors="pt",
            ).to(device)  # fmt: skip
            mask = batch["attention_mask"][..., None]
            means = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors[indices] = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
            if time.monotonic() - logged > LOG_INTERVAL_SECONDS:
                logged = time.monotonic()
                log.info("data: vectors of %d of %d texts", start + len(indices), len(order))
        return vectors


def nearest_rows(queries: np.ndarray, pool: np.ndarray, neighbors: int) -> np.ndarray:
    """Return the indices of the rows of a pool that are nearest to any query, the nearest first.

    A row counts by its best rank among the neighbors of the queries: first come those that are
    nearest to a query, then the second nearest, and so on; within a rank they keep the pool's
    order. A smaller number of neighbors, and a beginning of the result, choose a part of a larger
    one's.

    Args:
        queries: vectors of length 1, ``(Q, D)``.
        pool: vectors of length 1, ``(N, D)``.
        neighbors: number of neighbors of each query.

    Returns:
        Indices ``(M,)``, each once, ``M <= min(N, Q * neighbors)``.
    """
    neighbors = min(neighbors, len(pool))
    ranks = np.full(len(pool), neighbors, dtype=np.int64)
    step = max(1, MAX_PRODUCTS // len(pool))
    transposed = torch.from_numpy(np.array(pool)).T
    for start in range(0, len(queries), step):
        block = torch.from_numpy(np.array(queries[start : start + step]))
        found = (block @ transposed).topk(neighbors, dim=1).indices.numpy()
        for rank in range(neighbors):
            ranks[found[:, rank]] = np.minimum(ranks[found[:, rank]], rank)
    return np.argsort(ranks, kind="stable")[: int((ranks < neighbors).sum())]


def check_retrieval(schema: DataSchema) -> None:
    """Refuse tasks whose inputs are not texts.

    Raises:
        UserError: naming the option.
    """
    if not all(isinstance(kind, TextInput) for kind in schema.inputs.values()):
        raise UserError(
            f"data.unlabeled_select=nearest compares texts, which task={schema.task_name} does not "
            "read: leave it at random"
        )


def _texts(rows: Dataset, schema: DataSchema) -> list[str]:
    inputs = [role for role in schema.inputs if role in rows.column_names]
    return [
        " ".join(filter(None, values))
        for _, chunk in iter_chunks(rows, inputs)
        for values in zip(*(chunk[role] for role in inputs), strict=True)
    ]
