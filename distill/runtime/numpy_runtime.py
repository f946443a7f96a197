"""Run an exported small student with numpy and tokenizers alone.

    from predictor import Predictor

    model = Predictor("FOLDER")
    model.predict(["a lovely film", "dull"])    # [{"label": "positive", "score": 0.98, ...}, ...]

    python predictor.py FOLDER < texts.txt      # one text a line in, one JSON object a line out

A folder holds ``config.json``, ``weights.npz``, ``tokenizer.json`` and this file as
``predictor.py``. Logits are those of the student in torch up to rounding (1e-5). Each text is
computed by itself: no answer depends on others, and there is no padding.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
# Of the hash of n-grams.
FACTOR, MODULUS = 1000003, 2**31 - 1
# Printable ASCII and white space, its words and signs, and how many words are remembered.
PLAIN, WORD = re.compile(r"[ -~\t\n\r]*"), re.compile(r"[0-9A-Za-z]+|[!-/:-@\[-`{-~]")
CACHED_WORDS = 100_000
Text = str | tuple[str, str]


class Predictor:
    """An exported student: texts in, logits or answers out.

    Args:
        folder: an exported folder; by default the one that this file lies in.

    Raises:
        ValueError: for a folder that a later version has written.
    """

    def __init__(self, folder: str | Path | None = None):
        folder = Path(__file__).parent if folder is None else Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["format"] > FORMAT:
            raise ValueError(f"{folder}: format {config['format']}, this file reads {FORMAT}")
        with np.load(folder / "weights.npz", allow_pickle=False) as stored:
            weights = {name: stored[name] for name in stored.files}
        self.labels: list[str] = config["labels"]
        self.problem_type: str = config["problem_type"]
        # Fitted on validation: what logits are divided by before they become probabilities.
        self.temperature: float = config.get("temperature", 1.0)
        self.network = Network(config["network"], weights)
        self.encode = TextEncoder(folder / "tokenizer.json", config["max_length"])

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Return the logits of texts or pairs of texts, ``(N, C)``."""
        encode, network = self.encode, self.network
        logits = np.empty((len(texts), len(self.labels)), np.float32)
        for row, text in zip(logits, texts, strict=True):
            row[:] = network(encode(text))
        return logits

    def predict(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """Return an answer for each text or pair of texts.

        Single label: ``label``, its ``score``, and the ``scores`` of all. Multi-label: the
        ``labels`` above one half, and the ``scores`` of all. Regression: the ``value``, and what it
        is a number of as ``label`` (``score / 100`` where labels were divided for training).
        """
        return [self._answer(row) for row in self.logits(texts)]

    def _answer(self, logits: np.ndarray) -> dict[str, Any]:
        if self.problem_type == "regression":
            return {"label": self.labels[0], "value": float(logits[0])}
        if self.problem_type == "multi_label_classification":
            scores = dict(
                zip(self.labels, _sigmoid(logits / self.temperature).tolist(), strict=True)
            )
            return {"labels": [name for name, p in scores.items() if p > 0.5], "scores": scores}
        p = np.exp((logits - logits.max()) / self.temperature)
        p /= p.sum()
        best = int(p.argmax())
        scores = dict(zip(self.labels, p.tolist(), strict=True))
        return {"label": self.labels[best], "score": float(p[best]), "scores": scores}


class TextEncoder:
    """Turns a text or a pair of texts into ids as the tokenizer does.

    For a WordPiece of BERT's kind, the ids of a word are the same in every text: those of plain
    ASCII texts are put together from words that were met before, which takes a tenth of the time.
    Every other text, and one that is too long, goes through the tokenizer.

    Args:
        file: a ``tokenizer.json``.
        max_length: maximum number of tokens.
    """

    def __init__(self, file: Path, max_length: int):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(file))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.words: dict[str, list[int]] = {}
        state = json.loads(file.read_text(encoding="utf-8"))
        self.added = [token["content"] for token in state["added_tokens"]]
        normalizer = state["normalizer"] or {}
        self.separable = (
            state["model"]["type"] == "WordPiece"
            and (state["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
            and normalizer.get("type") == "BertNormalizer"
            and not any(token["normalized"] for token in state["added_tokens"])
        )
        self.lowercase = bool(normalizer.get("lowercase"))
        # What stands around a text: the ids of a word with it and without.
        inner = self.tokenizer.encode("a", add_special_tokens=False).ids
        whole = self.tokenizer.encode("a").ids
        place = next((i for i in range(len(whole)) if whole[i : i + len(inner)] == inner), 0)
        self.before, self.after = whole[:place], whole[place + len(inner) :]

    def __call__(self, text: Text) -> list[int]:
        """Return the ids of a text or pair."""
        if not isinstance(text, str):
            ids: list[int] = self.tokenizer.encode(*text).ids
            return ids
        if self.separable and (found := self._from_words(text)) is not None:
            return found
        ids = self.tokenizer.encode(text).ids
        return ids

    def _from_words(self, text: str) -> list[int] | None:
        """Return the ids of a text put together from words; ``None`` where that may differ."""
        if not PLAIN.fullmatch(text) or any(token in text for token in self.added):
            return None
        ids, words = self.before.copy(), self.words
        for word in WORD.findall(text.lower() if self.lowercase else text):
            pieces = words.get(word)
            if pieces is None:
                if len(words) >= CACHED_WORDS:
                    words.clear()
                pieces = words[word] = self.tokenizer.encode(word, add_special_tokens=False).ids
            ids += pieces
        ids += self.after
        return ids if len(ids) <= self.max_length else None


class Network:
    """Embeddings, an encoder, pooling and a head; see each architecture's file for the formulas.

    Args:
        config: ``architecture`` and its settings.
        weights: arrays by name.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]):
        self.embeddings = weights["embeddings"]
        self.pooling, self.pairs = config["pooling"], config["pairs"]
        self.separator = config["separator_id"]
        self.pooled = np.ones(len(self.embeddings), dtype=bool)
        self.pooled[config["skipped_ids"]] = False
        self.hidden = (weights["hidden.weight"], weights["hidden.bias"]) if (
            "hidden.weight" in weights
        ) else None  # fmt: skip
        self.output = weights["classifier.weight"], weights["classifier.bias"]
        # Without neighbors, what is not pooled need not be looked up.
        self.is_bag = config["architecture"] == "distill_static" and not self.pairs
        self.encode: Callable[[np.ndarray], np.ndarray] = ENCODERS[config["architecture"]](
            config, weights
        )

    def __call__(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the logits ``(C,)`` of the tokens of one text or pair."""
        ids = np.array(token_ids)
        pooled = self.pooled[ids]
        if self.is_bag:
            features = self._pool(self.embeddings.take(ids[pooled], axis=0))
        else:
            features = self._features(self.encode(ids), ids, pooled)
        if self.hidden is not None:
            weight, bias = self.hidden
            features = np.maximum(weight.dot(features) + bias, 0)
        weight, bias = self.output
        logits: np.ndarray = weight.dot(features)
        logits += bias
        return logits

    def _features(self, states: np.ndarray, ids: np.ndarray, pooled: np.ndarray) -> np.ndarray:
        if not self.pairs:
            return self._pool(states[pooled])
        separators = ids == self.separator
        second = (np.cumsum(separators) - separators) > 0
        u, v = self._pool(states[pooled & ~second]), self._pool(states[pooled & second])
        return np.concatenate([u, v, u * v, np.abs(u - v)])

    def _pool(self, states: np.ndarray) -> np.ndarray:
        """Pool ``(L, H)`` to ``(H,)`` or ``(2 H,)``; 0 for a text without tokens."""
        if not len(states):
            width = states.shape[1] * (2 if self.pooling == "mean_max" else 1)
            return np.zeros(width, np.float32)
        parts = []
        if self.pooling != "max":
            parts.append(_mean(states))
        if self.pooling != "mean":
            parts.append(np.maximum.reduce(states))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean of rows ``(L, H)``."""
    mean: np.ndarray = np.full(len(rows), 1 / len(rows), np.float32) @ rows
    return mean


class MappedTokens:
    """The product of each token's embedding and a matrix, which is the same in every text.

    Computed when a token is met for the first time, and looked up from then on.

    Args:
        embeddings: ``(V, E)``.
        matrix: ``(E, M)``.
    """

    def __init__(self, embeddings: np.ndarray, matrix: np.ndarray):
        self.embeddings, self.matrix = embeddings, matrix
        self.mapped = np.empty((len(embeddings), matrix.shape[1]), np.float32)
        self.known = np.zeros(len(embeddings), dtype=bool)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the products ``(L, M)`` of ids ``(L,)``."""
        known = self.known[ids]
        if not known.all():
            # One at a time: the last bit of a product of matrices depends on its other rows.
            for token in ids[~known].tolist():
                self.mapped[token] = self.embeddings[token] @ self.matrix
            self.known[ids] = True
        return self.mapped.take(ids, axis=0)


def _static(config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Callable[..., Any]:
    """Embeddings as they are."""
    return weights["embeddings"].__getitem__


class _Cnn:
    """Filters over neighboring tokens, then ReLU.

    A filter of width w is a sum of w linear maps of embeddings, one for each place in its window.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]):
        embeddings = weights["embeddings"]
        self.widths: list[int] = config["widths"]
        size = embeddings.shape[1]
        filters = [weights[f"filters.{index}.weight"] for index in range(len(self.widths))]
        self.channels = len(filters[0])
        # (F, w E) -> (E, w F): all places of all widths side by side.
        maps = np.concatenate(
            [
                weight.reshape(self.channels, width, size).transpose(2, 1, 0).reshape(size, -1)
                for weight, width in zip(filters, self.widths, strict=True)
            ],
            axis=1,
        )
        self.bias = np.concatenate(
            [weights[f"filters.{index}.bias"] for index in range(len(self.widths))]
        )
        self.tokens = MappedTokens(embeddings, maps)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the filters' outputs ``(L, H)`` of ids ``(L,)``."""
        rows, channels, length = self.tokens(ids), self.channels, len(ids)
        states = np.empty((length, len(self.bias)), np.float32)
        states[:] = self.bias
        place = 0
        for index, width in enumerate(self.widths):
            target = states[:, index * channels : (index + 1) * channels]
            for shift in range(-((width - 1) // 2), width - (width - 1) // 2):
                part = rows[:, place * channels : (place + 1) * channels]
                first, last = max(0, -shift), min(length, length - shift)
                if first < last:
                    target[first:last] += part[first + shift : last + shift]
                place += 1
        return np.maximum(states, 0, out=states)


class _Ngram:
    """Token embeddings plus hashed n-grams that start at each token."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]):
        self.embeddings = weights["embeddings"]
        self.orders: list[int] = config["orders"]
        self.ngrams = weights["ngrams"] if self.orders else self.embeddings[:0]

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the sums ``(L, H)`` of ids ``(L,)``."""
        states = self.embeddings.take(ids, axis=0)
        orders = [order for order in self.orders if order <= len(ids)]
        if not orders:
            return states
        rows = self.ngrams.take(ngram_buckets(ids, orders, len(self.ngrams)), axis=0)
        start = 0
        for order in orders:
            count = len(ids) - order + 1
            states[:count] += rows[start : start + count]
            start += count
        return states


def ngram_buckets(ids: np.ndarray, orders: Sequence[int], buckets: int) -> np.ndarray:
    """Return the buckets of the n-grams of ids ``(L,)``, one order after the other.

    A polynomial hash modulo 2^31 - 1 and then modulo the number of buckets: each id, plus 1, times
    a power of the factor. It does not overflow for fewer than 2^32 ids times orders.
    """
    numbers, parts = ids + 1, []
    for order in orders:
        hashed = np.full(len(ids) - order + 1, order * pow(FACTOR, order, MODULUS) % MODULUS)
        for place in range(order):
            power = pow(FACTOR, order - 1 - place, MODULUS)
            hashed += numbers[place : len(ids) - order + 1 + place] * power
        parts.append(hashed)
    hashed = parts[0] if len(parts) == 1 else np.concatenate(parts)
    hashed %= MODULUS
    hashed %= buckets
    return hashed


ENCODERS: dict[str, Callable[..., Callable[[np.ndarray], np.ndarray]]] = {
    "distill_static": _static,
    "distill_cnn": _Cnn,
    "distill_ngram": _Ngram,
}


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def main(arguments: Sequence[str], lines: Iterable[str] = sys.stdin) -> int:
    """Answer each line of standard input; a tab separates the texts of a pair."""
    predictor = Predictor(arguments[0] if arguments else None)
    for line in lines:
        text = line.rstrip("\n")
        first, _, second = text.partition("\t")
        given: Text = (first, second) if predictor.network.pairs else text
        print(json.dumps(predictor.predict([given])[0], ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
