from distill.pairing import _notes_on_length


def test_texts_that_are_cut_are_said():
    assert _notes_on_length([8] * 30 + [3] * 70, 8) == [
        "30% of the training texts fill data.max_length=8 tokens: what goes beyond is cut."
    ]
    assert _notes_on_length([7] * 100, 8) == []
