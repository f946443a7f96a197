"""Several models behind one request: some ask always, others where an answer says so.

    models:
      language: {model: runs/language}
      topic: {model: runs/topic, form: int8}
      tone: {model: runs/tone, after: language, when: {label: [en, de], score: ">= 0.8"}}

A model without ``after`` is asked for every record; one with it, where the answer of the other has
the values of ``when``.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from distill.answers.base import EncodedRecord, RecordError
from distill.core.errors import UserError
from distill.predict.predictor import Answer, Predictor

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
KEYS = {"model", "form", "what", "after", "when"}


@dataclass(frozen=True)
class Node:
    """A model of a graph.

    Attributes:
        predictor: the model.
        after: name of the model whose answer decides; ``None``: it is always asked.
        when: values of that answer by key.
    """

    predictor: Predictor
    after: str | None = None
    when: Mapping[str, Any] = field(default_factory=dict)

    def is_asked(self, answer: Mapping[str, Any] | None) -> bool:
        """Return whether an answer of the model before has the values of ``when``."""
        return answer is not None and all(
            _holds(answer.get(key), wanted) for key, wanted in self.when.items()
        )


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_holds(value, one) for one in wanted)
    comparison = _comparison(wanted)
    if comparison is not None:
        compare, bound = comparison
        return isinstance(value, int | float) and bool(compare(value, bound))
    return wanted in value if isinstance(value, list) else bool(value == wanted)


def _comparison(wanted: Any) -> tuple[Any, float] | None:
    """Return the operator and the bound of a text such as ``>= 0.8``."""
    if not isinstance(wanted, str):
        return None
    for sign, compare in COMPARISONS.items():
        if wanted.startswith(sign):
            try:
                return compare, float(wanted.removeprefix(sign))
            except ValueError:
                return None
    return None


class Graph:
    """Models by name, in an order in which each comes after the one that decides about it.

    Args:
        nodes: the models.

    Raises:
        UserError: if a model comes after one that there is not, or after itself.
    """

    def __init__(self, nodes: Mapping[str, Node]):
        self.nodes: dict[str, Node] = {}
        remaining = dict(nodes)
        while remaining:
            ready = [
                name
                for name, node in remaining.items()
                if node.after is None or node.after in self.nodes
            ]
            if not ready:
                name, node = next(iter(remaining.items()))
                raise UserError(f"{name} comes after {node.after}, which is not there before it")
            for name in ready:
                self.nodes[name] = remaining.pop(name)

    @classmethod
    def read(cls, file: Path, form: str | None = None, threads: int | None = None) -> "Graph":
        """Read ``graph.yaml``; paths are taken from its folder.

        Raises:
            UserError: if it is no such file, or a model cannot be loaded.
        """
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
        models = content.get("models") if isinstance(content, dict) else None
        if not isinstance(models, dict) or not models:
            raise UserError(f"{file}: it has no models: (NAME: {{model: FOLDER}})")
        nodes = {}
        for name, entry in models.items():
            entry = {"model": entry} if isinstance(entry, str) else entry
            if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
                raise UserError(f"{file}: {name} names no model: FOLDER")
            if unknown := sorted(set(entry) - KEYS):
                raise UserError(
                    f"{file}: {name} has {unknown[0]}: there are {', '.join(sorted(KEYS))}"
                )
            if ("when" in entry) != ("after" in entry):
                raise UserError(f"{file}: {name} needs both after: and when:, or none of them")
            predictor = Predictor(
                file.parent / entry["model"], form=entry.get("form", form),
                model=entry.get("what", "student"), threads=threads,
            )  # fmt: skip
            when = entry.get("when") or {}
            if not isinstance(when, dict):
                raise UserError(f"{file}: when: of {name} is no {{KEY: VALUE}}")
            nodes[str(name)] = Node(predictor, entry.get("after"), when)
        for name, node in nodes.items():
            if node.after is not None and node.after in nodes:
                fields = nodes[node.after].predictor.reader.fields
                for key in node.when:
                    if key not in fields:
                        raise UserError(
                            f"{file}: when: of {name} names {key}, the answers of {node.after} "
                            f"have {', '.join(fields)}"
                        )
        return cls(nodes)

    def check(self, record: Any) -> None:
        """Raise a :class:`RecordError` for a record that the models without ``after`` refuse."""
        for node in self.nodes.values():
            if node.after is None:
                node.predictor.reader.parse(record)

    def answers(
        self, records: Sequence[Any], *, everything: bool = False
    ) -> list[Answer | RecordError]:
        """Answer records: an object with the answer of each model, ``None`` where it was not asked.

        A record that a model refuses has its reason instead. Records are encoded once for models
        that read them alike.
        """
        errors: dict[int, RecordError] = {}
        answers: list[dict[str, Any]] = [dict.fromkeys(self.nodes) for _ in records]
        encoded: dict[Any, dict[int, EncodedRecord]] = {}
        for name, node in self.nodes.items():
            asked = [
                place
                for place in range(len(records))
                if place not in errors
                and (node.after is None or node.is_asked(answers[place][node.after]))
            ]
            of_node = encoded.setdefault(_encoding_key(node.predictor), {})
            self._encode(node.predictor, records, asked, of_node, errors)
            asked = [place for place in asked if place not in errors]
            found = node.predictor.read([of_node[place] for place in asked], everything)
            for place, answer in zip(asked, found, strict=True):
                if isinstance(answer, RecordError):
                    errors[place] = answer
                else:
                    answers[place][name] = answer
        return [errors.get(place, answer) for place, answer in enumerate(answers)]

    def _encode(
        self,
        predictor: Predictor,
        records: Sequence[Any],
        asked: Sequence[int],
        encoded: dict[int, EncodedRecord],
        errors: dict[int, RecordError],
    ) -> None:
        """Encode those of the records that are not encoded yet."""
        places, parsed = [], []
        for place in asked:
            if place in encoded:
                continue
            try:
                parsed.append(predictor.reader.parse(records[place]))
                places.append(place)
            except RecordError as error:
                errors[place] = error
        made = predictor.reader.encode(predictor.tokenizer, parsed)
        encoded.update(zip(places, made, strict=True))


def _encoding_key(predictor: Predictor) -> Any:
    """Return what two models have in common whose records are encoded alike."""
    reader = predictor.reader
    settings = {
        name: value
        for name, value in reader.settings.items()
        if name in ("columns", "pairs", "stride")
    }
    encode = type(reader).encode
    return encode, repr(settings), predictor.tokenizer.backend, repr(predictor.tokenizer.settings)
