from datasets import Dataset

from distill.tasks.sequence_classification import SequenceClassification


def test_texts_that_are_cut_are_said():
    def notes(lengths):
        rows = Dataset.from_dict({"length": lengths})
        return SequenceClassification().preprocessor.notes({"train": rows}, 8)

    assert notes([8] * 30 + [3] * 70) == [
        "30% of the training texts fill data.max_length=8 tokens: what goes beyond is cut."
    ]
    assert notes([7] * 100) == []
