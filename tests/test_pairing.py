from distill.tasks.sequence_classification import SequenceClassification


def test_texts_that_are_cut_are_said():
    notes = SequenceClassification().reading_notes
    assert notes({"length": [8] * 30 + [3] * 70}, 8) == [
        "30% of the training texts fill data.max_length=8 tokens: what goes beyond is cut."
    ]
    assert notes({"length": [7] * 100}, 8) == []
