"""Baselines that give the same answer to everything."""

import numpy as np

from distill.baselines.base import MAJORITY, Baseline, BaselineData, FittedBaseline
from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL

# Training examples that the frequencies of masked tokens are counted in.
MASKED_EXAMPLES = 20_000


class Constant(FittedBaseline):
    """The same logits for every example or labeled position.

    Args:
        name: what is answered.
        logits: ``(C,)``.
        is_probabilistic: see :class:`~distill.baselines.base.FittedBaseline`.
    """

    def __init__(self, name: str, logits: np.ndarray, is_probabilistic: bool = True):
        self.name, self.logits, self.is_probabilistic = name, logits, is_probabilistic

    def predict(self, examples: DistillationDataset) -> ArrayOrJagged:
        """Return the constant for each example, or for each of its labeled positions."""
        counts = examples.position_counts
        rows = len(examples) if counts is None else int(counts.sum())
        logits = np.broadcast_to(self.logits, (rows, len(self.logits)))
        return logits if counts is None else JaggedArray(logits, counts)


class LargestClass(Baseline):
    """The most frequent class, with the probabilities of the classes' frequencies.

    Frequencies are smoothed by one example of each class. Serves single labels of texts and of
    words.
    """

    role = MAJORITY

    def fit(self, data: BaselineData) -> Constant:
        """Count the classes of the training examples."""
        labels = data.train.label_values
        counts = np.bincount(labels[labels != IGNORED_LABEL], minlength=data.outputs)
        logits = np.log((counts + 1) / (counts.sum() + data.outputs))
        return Constant(f"always {data.label_names[int(counts.argmax())]}", logits)


class MeanLabel(Baseline):
    """The mean of the training labels."""

    role = MAJORITY

    def fit(self, data: BaselineData) -> Constant:
        """Compute the mean."""
        mean = float(np.mean(data.train.label_values))
        return Constant(f"always {mean:.3g}, the mean", np.array([mean]))


class CommonestLabels(Baseline):
    """The same set of labels for everything: the one that scores best on validation.

    Candidates are the k most frequent labels for each k from 0, and the most frequent set.
    """

    role = MAJORITY

    def fit(self, data: BaselineData) -> Constant:
        """Choose among the candidates; the smaller of two that score the same."""
        labels = np.asarray(data.train.label_values)
        ranks = np.argsort(np.argsort(-labels.sum(axis=0), kind="stable"), kind="stable")
        sets, counts = np.unique(labels, axis=0, return_counts=True)
        candidates = [ranks < k for k in range(data.outputs + 1)] + [sets[counts.argmax()] == 1]
        best, chosen = -np.inf, candidates[0]
        for candidate in candidates:
            logits = Constant("", _decisions(candidate)).predict(data.validation)
            score = data.score(logits)
            if score > best:
                best, chosen = score, candidate
        names = [name for name, has in zip(data.label_names, chosen, strict=True) if has]
        name = f"always {', '.join(names[:3])}" if names else "always no label"
        return Constant(name + (", ..." if len(names) > 3 else ""), _decisions(chosen), False)


class NoAnswer(Baseline):
    """No answer to any question, for data with questions that have none."""

    role = MAJORITY

    def fit(self, data: BaselineData) -> "NoAnswerEverywhere":
        """Return the baseline, which has nothing to learn."""
        return NoAnswerEverywhere()


class NoAnswerEverywhere(FittedBaseline):
    """Chooses the first position of every window, which stands for no answer."""

    name, is_probabilistic = "never an answer", False

    def predict(self, examples: DistillationDataset) -> JaggedArray | None:
        """Return logits ``(P, 2)``; ``None`` if every question has an answer."""
        assert examples.source is not None
        if all(label["text"] for label in examples.source["label"][:]):
            return None
        counts = examples.position_counts
        assert counts is not None
        logits = JaggedArray(np.zeros((int(counts.sum()), 2)), counts)
        logits.values[logits.starts[:-1]] = 1e6
        return logits


class CommonestToken(Baseline):
    """The most frequent token, with the probabilities of the tokens' frequencies.

    Its perplexity is that of a unigram model, smoothed by one occurrence of every token.
    """

    role = MAJORITY

    def fit(self, data: BaselineData) -> "UnigramTokens":
        """Count the tokens that are masked in the training examples."""
        train = data.train
        rows = train.select(range(min(len(train), MASKED_EXAMPLES)))
        counts = np.bincount(rows.label_values, minlength=data.outputs) + 1.0
        return UnigramTokens(-np.log(counts / counts.sum()))


class UnigramTokens(FittedBaseline):
    """A distribution over the vocabulary, the same for every masked token.

    Args:
        surprisal: negative log-probability of each token in nats, ``(V,)``.
    """

    name = "token frequencies"

    def __init__(self, surprisal: np.ndarray):
        self.surprisal = surprisal

    def predict(self, examples: DistillationDataset) -> JaggedArray:
        """Return negative log-likelihood, most likely token and its probability, ``(U, 3)``."""
        counts = examples.position_counts
        assert counts is not None
        best = int(self.surprisal.argmin())
        nll = self.surprisal[examples.label_values]
        constant = np.tile([best, np.exp(-self.surprisal[best])], (len(nll), 1))
        return JaggedArray(np.column_stack([nll, constant]), counts)


def _decisions(chosen: np.ndarray) -> np.ndarray:
    """Return logits that choose some of the classes, ``(C,)``."""
    return np.where(chosen, 1.0, -1.0)
