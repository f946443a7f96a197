"""The sentences of fifty reports, as conclusions.md shows them."""

import re

import pytest

from tests.reporting.conclusions import CASES, FILE, conclusions

SECTIONS = FILE.read_text(encoding="utf-8").split("\n## ")[1:]


def test_the_file_that_is_read_has_the_sentences_that_are_written():
    assert len(CASES) == len(SECTIONS) == 50
    assert FILE.read_text(encoding="utf-8") == conclusions(), (
        "python -m tests.reporting.conclusions writes it anew: read what changed"
    )


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_no_sentence_says_more_than_it_may(section):
    title, _, body = section.partition("\n\n")
    text = " ".join(body.split())
    # A verdict on the method takes several seeds, and a difference that is shown.
    verdict = re.search(r"the teacher (helped|hurt):", text)
    assert bool(verdict) <= bool(re.search(r"over \d+ seeds the", text))
    if verdict:
        assert "is not shown:" not in text
    # What takes itself back: a direction beside "no difference is shown".
    for sentence in re.split(r"(?<=[a-z\])])\. (?=[A-Z])", text):
        assert not re.search(r"(scores|is) (better|worse).*no difference is shown", sentence)
    assert not re.search(r"[+−]0\.0 points[^.]*(helped|hurt|better|worse)", text)
    assert "no control" not in text or "this control" not in text
    assert "None" not in text
    if "predicts" in text:
        assert "keeps" not in text, title
        assert text.index("predicts") < text.index("parameters")
