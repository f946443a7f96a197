"""The sentences of made-up reports, as conclusions.md shows them."""

import re

import pytest

from tests.reporting.conclusions import CASES, FILE, conclusions

SECTIONS = FILE.read_text(encoding="utf-8").split("\n## ")[1:]


def test_the_file_that_is_read_has_the_sentences_that_are_written():
    assert len(CASES) == len(SECTIONS) >= 50
    assert FILE.read_text(encoding="utf-8") == conclusions(), (
        "python -m tests.reporting.conclusions writes it anew: read what changed"
    )


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_no_sentence_says_more_than_it_may(section):
    title, _, body = section.partition("\n\n")
    text = " ".join(body.split())
    # A verdict on the method takes several seeds, and a difference that is shown.
    verdict = re.search(r"the teacher[^.]* (helped|hurt)(, by a negligible amount)?:", text)
    if verdict and "not shown that learning" not in text:
        assert re.search(r"averaged over \d+ seeds", text), title
        assert "borderline" not in text
    if "One seed:" in text:
        assert not re.search(r"teacher (helped|hurt)", text) or "not known" in text
    for sentence in re.split(r"(?<=[a-z\])])\. (?=[A-Z])", text):
        # What takes itself back: a direction beside a difference that is not significant.
        assert not ("not significant" in sentence and "is significant" in sentence)
        assert not re.search(r"\bkeeps\b.*(worse|no better) than", sentence)
    assert not re.search(r"[+−]0\.0 points[^.]*(helped|hurt|better|worse)", text)
    assert "None" not in text and "nan" not in text
    if re.search(r"\[", text):
        assert "95 %" in text, title
    if "predicts" in text:
        assert "keeps" not in text, title
        assert text.index("predicts") < text.index("parameters")
