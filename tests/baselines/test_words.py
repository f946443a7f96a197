"""The linear model on words against scikit-learn's own estimators, put together by hand."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from distill.baselines.features import (
    PAIR_FEATURES,
    Vocabulary,
    pair_vector,
    word_terms,
    words_and_pairs,
)
from distill.baselines.linear import STRENGTHS, as_matrix, fit, fit_best
from distill.baselines.words import text_vector
from tests.factories import sentences
from tests.tasks.texts import rated, tagged

# The same words as ours in Latin script: scikit-learn's own analyzer makes words and pairs of them.
SETTINGS = {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]", "sublinear_tf": True}


def texts_of(rows) -> list[str]:
    return [row["text"] for row in rows]


def fitted_vocabulary(texts, outputs=2) -> Vocabulary:
    return Vocabulary.fit(texts, outputs, True, words_and_pairs)


def matrix_of(vocabulary: Vocabulary, texts) -> csr_matrix:
    return as_matrix([vocabulary.vector(words_and_pairs(t)) for t in texts], len(vocabulary))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The film, the CAST!", ["the", "film", ",", "the", "cast", "!"]),
        ("영화가 정말 좋았다", ["영화가", "정말", "좋았다"]),
        ("電影很好 ok2go", ["電", "影", "很", "好", "ok2go"]),
        ("好ok", ["好", "ok"]),
        (" \t ", []),
    ],
)
def test_words_and_each_two_that_follow_each_other(text, words):
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    assert words_and_pairs(text) == words + pairs


def test_features_are_those_of_scikit_learn():
    train, test = (texts_of(sentences(count, seed)) for count, seed in ((60, 1), (30, 2)))
    train[0] += " again again again!"  # more than once, for the logarithm
    vocabulary = fitted_vocabulary(train)
    oracle = TfidfVectorizer(**SETTINGS).fit(train)
    assert list(vocabulary.ids) == oracle.get_feature_names_out().tolist()
    for texts in (train, test, ["words that train lacks", ""]):
        expected = oracle.transform(texts).toarray()
        np.testing.assert_allclose(matrix_of(vocabulary, texts).toarray(), expected, atol=1e-12)


def test_classes_are_scored_as_by_scikit_learn():
    train, test = sentences(80, 1), sentences(40, 2)
    vocabulary = fitted_vocabulary(texts_of(train))
    labels = np.array([index % 3 for index in range(len(train))])  # three, regardless of the words
    oracle = TfidfVectorizer(**SETTINGS)
    classifier = LogisticRegression(C=10.0, max_iter=300)
    classifier.fit(oracle.fit_transform(texts_of(train)), labels)
    expected = classifier.decision_function(oracle.transform(texts_of(test)))
    model = fit("categorical", matrix_of(vocabulary, texts_of(train)), labels, 3, 10.0)
    scores = [model.scores(text_vector(vocabulary, row)) for row in test]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_two_classes_have_one_row_of_weights():
    train = sentences(80, 1)
    texts, labels = texts_of(train), np.array([row["label"] == "positive" for row in train])
    oracle = TfidfVectorizer(**SETTINGS)
    classifier = LogisticRegression(C=1.0).fit(oracle.fit_transform(texts), labels)
    vocabulary = fitted_vocabulary(texts)
    model = fit("categorical", matrix_of(vocabulary, texts), labels.astype(int), 2, 1.0)
    assert model.parameters == np.count_nonzero(classifier.coef_) + 1
    logits = np.array([model.scores(text_vector(vocabulary, row)) for row in train])
    expected = classifier.decision_function(oracle.transform(texts))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_each_label_is_decided_as_by_one_against_the_rest():
    train, test = tagged(80, 1), tagged(40, 2)
    names = ["praise", "blame", "both"]
    labels = np.array([[int(name in row["label"]) for name in names] for row in train])
    oracle = TfidfVectorizer(**SETTINGS)
    classifier = OneVsRestClassifier(LogisticRegression(C=10.0))
    classifier.fit(oracle.fit_transform(texts_of(train)), labels)
    expected = classifier.decision_function(oracle.transform(texts_of(test)))
    vocabulary = fitted_vocabulary(texts_of(train), 3)
    model = fit("bernoulli", matrix_of(vocabulary, texts_of(train)), labels, 3, 10.0)
    scores = [model.scores(text_vector(vocabulary, row)) for row in test]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_numbers_are_those_of_ridge_regression():
    train, test = rated(80, 1), rated(40, 2)
    labels = np.array([row["label"] for row in train])
    oracle = TfidfVectorizer(**SETTINGS)
    # Solved in closed form on dense features: another way to the same optimum.
    ridge = Ridge(alpha=0.1, solver="cholesky")
    ridge.fit(oracle.fit_transform(texts_of(train)).toarray(), labels)
    expected = ridge.predict(oracle.transform(texts_of(test)).toarray())
    vocabulary = fitted_vocabulary(texts_of(train), 1)
    model = fit("gaussian", matrix_of(vocabulary, texts_of(train)), labels, 1, 10.0)
    scores = [model.scores(text_vector(vocabulary, row))[0] for row in test]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_pairs_have_both_texts_their_products_and_their_overlap():
    vocabulary = fitted_vocabulary(["a b c", "b c d", "a d"])
    row = {"text": "a b c", "text_pair": "b c e"}
    indices, values = text_vector(vocabulary, row)
    size = len(vocabulary)
    dense = np.zeros(3 * size + len(PAIR_FEATURES))
    dense[indices] = values
    first, second = matrix_of(vocabulary, [row["text"], row["text_pair"]]).toarray()
    np.testing.assert_allclose(dense[:size], first)
    np.testing.assert_allclose(dense[size : 2 * size], second)
    np.testing.assert_allclose(dense[2 * size : 3 * size], first * second)
    # Known terms: a, b, c, "a b", "b c" and b, c, "b c".
    np.testing.assert_allclose(dense[3 * size :], [first @ second, 3 / 5, 3 / 5, 1, 3 / 5])


def test_overlap_of_texts_without_known_words_is_nothing():
    empty = Vocabulary({}, np.empty(0)).vector(["a"])
    indices, values = pair_vector(empty, empty, 0)
    assert indices.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [0.0] * 5


def test_words_are_described_by_form_and_neighbors():
    first, second = word_terms(["Room-12", "USA"])
    assert {"w room-12", "p roo", "s -12", "f Aa-0", "-1 <s>", "+1 usa", "w+1 room-12 usa"} <= set(
        first
    )
    assert {"w usa", "f A", "-1 room-12", "+1 </s>", "f- Aa-0 A"} <= set(second)
    assert word_terms([]) == []


def test_rare_terms_are_left_out_of_large_data_alone():
    few = [["a", f"w{i}"] for i in range(999)]
    assert len(Vocabulary.fit(few, 2, True, list)) == 1000
    assert list(Vocabulary.fit([*few, ["a"]], 2, True, list).ids) == ["a"]
    unique = [[f"w{i}"] for i in range(1000)]
    assert len(Vocabulary.fit(unique, 2, True, list)) == 1000  # or nothing would be left
    assert len(Vocabulary.fit([[], []], 2, True, list)) == 0
    # So many outputs that weights would not fit into memory: the most frequent terms remain.
    many = [*[["common"]] * 2, *([f"w{i}"] for i in range(2000))]
    assert len(Vocabulary.fit(many[:999], 20_000, True, list)) == 998
    vocabulary = Vocabulary.fit([["common", f"w{i // 2}"] for i in range(4000)], 20_000, True, list)
    assert len(vocabulary) == 1000
    assert "common" in vocabulary.ids


def test_the_strength_is_chosen_by_the_score_and_the_smaller_of_equals():
    train = sentences(60, 1)
    labels = np.array([int(row["label"] == "positive") for row in train])
    matrix = matrix_of(fitted_vocabulary(texts_of(train)), texts_of(train))
    sizes = []

    def largest_weights(model):
        sizes.append(float(np.abs(model.weights).sum()))
        return sizes[-1]

    best, strength = fit_best("categorical", matrix, labels, 2, largest_weights)
    assert strength == STRENGTHS[-1]
    assert np.abs(best.weights).sum() == pytest.approx(max(sizes))
    assert sizes == sorted(sizes)
    assert fit_best("categorical", matrix, labels, 2, lambda model: 0.5)[1] == STRENGTHS[0]
    assert fit_best("categorical", matrix, labels, 2, lambda model: np.nan)[1] == STRENGTHS[0]


def test_a_class_without_examples_is_never_predicted_and_never_impossible():
    train = sentences(60, 1)
    texts = texts_of(train)
    vocabulary = fitted_vocabulary(texts, 4)
    matrix = matrix_of(vocabulary, texts)
    for labels in (np.zeros(60, int), np.arange(60) % 2 * 3, np.arange(60) % 3):
        model = fit("categorical", matrix, labels, 4, 1.0)
        logits = matrix @ model.weights + model.intercept
        assert np.isfinite(logits).all()
        assert set(logits.argmax(axis=1)) <= set(labels)


def test_a_label_that_never_varies_has_the_odds_of_its_frequency():
    texts = texts_of(sentences(9, 1))
    labels = np.stack([np.zeros(9, int), np.ones(9, int), np.arange(9) % 2], axis=1)
    model = fit("bernoulli", matrix_of(fitted_vocabulary(texts), texts), labels, 3, 1.0)
    np.testing.assert_allclose(model.intercept[:2], [np.log(1 / 10), np.log(10)], rtol=1e-6)
    assert not model.weights[:, :2].any()
    assert model.weights[:, 2].any()


def test_of_a_long_text_the_first_words_count():
    terms = words_and_pairs(" ".join(f"w{i}" for i in range(1200)))
    assert len(terms) == 1999
    assert "w999" in terms
    assert "w1000" not in terms
