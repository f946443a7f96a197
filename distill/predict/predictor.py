"""The predictor: records in, answers out, whatever runs the model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.answers import reader_from_settings
from distill.answers.base import AnswerReader, EncodedRecord, RecordError, Window
from distill.answers.tokenizer import TextTokenizer, TokenizerSettings
from distill.core.errors import UserError
from distill.predict.exported import ExportedForm, exported_forms, fastest, file_hash
from distill.predict.runtimes import NumpyRuntime, OnnxRuntime, Runtime

Answer = dict[str, Any]
BATCH_TOKENS = 512
"""Maximum number of tokens of a batch, padding included; one example may have more."""
FORMS = ("torch", "onnx", "int8", "numpy")
MODELS = ("student", "control")


class Predictor:
    """Answers records with the model of a run, a saved model or an exported one.

    >>> predictor = Predictor("runs/NAME")  # doctest: +SKIP
    >>> predictor("a lovely film")  # doctest: +SKIP
    {'label': 'positive', 'score': 0.98}
    >>> predictor(["a lovely film", ("a text", "a second one"), {"text": "dull"}])  # doctest: +SKIP

    An answer has, by task: ``label`` and ``score``; ``labels`` and ``scores``; ``value``;
    ``entities`` and ``words`` with their places in the text; ``answer``, ``start``, ``end`` and
    ``score``; ``text`` and ``masks``. Probabilities are calibrated by the temperature that the run
    has fitted on validation, if it has. Of exported models torch is not imported.

    Args:
        path: the folder of a run, of a saved model or of an exported one.
        form: ``torch``, ``onnx``, ``int8`` or ``numpy``; ``None``: of the exported forms that
            passed every check the fastest, or torch where there is none.
        model: ``student`` or ``control``: which of a run's models.
        threads: number of threads of onnxruntime and torch; ``None``: their default.

    Attributes:
        reader: how the task's records and answers read.
        tokenizer: makes token ids.
        runtime: computes logits.
        form: the form that is used.
        model_hash: SHA-256 of the weights' file.

    Raises:
        UserError: if there is no such model, or its files are not those that were checked.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        form: str | None = None,
        model: str = "student",
        threads: int | None = None,
    ):
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UserError(f"{path}: there is no such folder")
        if form is not None and form not in FORMS:
            raise UserError(f"form={form}: choose one of {', '.join(FORMS)}")
        is_run = (folder / "config.yaml").is_file()
        if is_run:
            folder = folder / model
            if not folder.is_dir():
                raise UserError(f"{path} has no {model}: {folder} is missing")
        self.folder = folder
        exported = _choose(folder, form)
        if exported is not None:
            self._open_exported(exported, threads)
        else:
            from distill.predict.saved import open_saved

            self.form = "torch"
            self.reader, self.tokenizer, self.runtime, weights = open_saved(folder, threads)
            self.model_hash = file_hash(weights)
        self.path = Path(path)

    reader: AnswerReader
    tokenizer: TextTokenizer
    runtime: Runtime

    def _open_exported(self, exported: ExportedForm, threads: int | None) -> None:
        exported.verify()
        record = exported.record
        self.form, self.model_hash = exported.name, exported.entry["sha256"]
        self.reader = reader_from_settings(record["reader"])
        settings = TokenizerSettings(**record["tokenizer"])
        self.tokenizer = TextTokenizer.from_file(exported.tokenizer_file, settings)
        self.runtime = (
            NumpyRuntime(exported.folder)
            if exported.name == "numpy"
            else OnnxRuntime(exported.file, settings, threads)
        )

    def __call__(self, records: Any, *, everything: bool = False) -> Any:
        """Answer one record, or a list of them.

        Args:
            records: a text, a tuple of two texts, a mapping with the columns of the data; or
                a list of them.
            everything: whether to add the scores of all classes.

        Returns:
            An answer, or a list of them.

        Raises:
            RecordError: for a record that cannot be answered.
        """
        if isinstance(records, list):
            return self.predict(records, everything=everything)
        return self.predict([records], everything=everything)[0]

    def predict(self, records: Sequence[Any], *, everything: bool = False) -> list[Answer]:
        """Answer records in their order.

        Raises:
            RecordError: for the first one that cannot be answered.
        """
        answers = []
        for answer in self.answers(records, everything=everything):
            if isinstance(answer, RecordError):
                raise answer
            answers.append(answer)
        return answers

    def answers(
        self, records: Sequence[Any], *, everything: bool = False
    ) -> list[Answer | RecordError]:
        """Answer records in their order; the reason in the place of those that cannot be.

        A record that cannot be answered leaves the others as they are.
        """
        results: list[Answer | RecordError | None] = [None] * len(records)
        places, parsed = [], []
        for place, record in enumerate(records):
            try:
                parsed.append(self.reader.parse(record))
                places.append(place)
            except RecordError as error:
                results[place] = error
        encoded = self.reader.encode(self.tokenizer, parsed)
        for place, answer in zip(places, self.read(encoded, everything), strict=True):
            results[place] = answer
        return [result for result in results if result is not None]

    def read(
        self, encoded: Sequence[EncodedRecord], everything: bool = False
    ) -> list[Answer | RecordError]:
        """Answer records that the reader has encoded."""
        windows = [window for record in encoded for window in record.windows]
        rows: list[Any] = [None] * len(windows)
        for batch in self._batches(windows):
            for index, row in zip(
                batch, self.runtime.logits([windows[i] for i in batch]), strict=True
            ):
                rows[index] = row
        answers: list[Answer | RecordError] = []
        start = 0
        for record in encoded:
            logits = rows[start : start + len(record.windows)]
            start += len(record.windows)
            try:
                answers.append(self.reader.read(record, logits, everything))
            except RecordError as error:
                answers.append(error)
        return answers

    def _batches(self, windows: Sequence[Window]) -> Iterator[list[int]]:
        """Return indices of batches of like length, of ``BATCH_TOKENS`` tokens at most."""
        if not self.runtime.batches:
            yield from ([index] for index in range(len(windows)))
            return
        batch: list[int] = []
        for index in sorted(range(len(windows)), key=lambda i: len(windows[i].ids)):
            if batch and (len(batch) + 1) * len(windows[index].ids) > BATCH_TOKENS:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


def _choose(folder: Path, form: str | None) -> ExportedForm | None:
    """Return the exported form that is asked for; ``None``: the model in torch."""
    if form == "torch":
        return None
    forms = exported_forms(folder)
    if form is None:
        return fastest(forms)
    if form not in forms:
        there = ", ".join(forms) or "none"
        raise UserError(
            f"{folder} has no form {form} (exported: {there}): make it with distill-export"
        )
    return forms[form]
