"""Pairs of student and teacher layers whose outputs are compared."""

from typing import Literal

from distill.core.errors import UserError

LayerMap = list[list[int]] | Literal["uniform", "first", "last"]
"""A strategy, or pairs of layers ``[[student, teacher], ...]``."""

LAST_LAYERS: LayerMap = [[-1, -1]]
"""The last layer of the student and the last one of the teacher."""


def layer_pairs(
    layers: LayerMap, student: int, teacher: int, path: str, but_last: bool = False
) -> list[tuple[int, int]]:
    """Resolve a layer map to pairs of layer indices, counted from 0.

    Args:
        layers: ``uniform``: layer m of the student's M layers is paired with the last layer of the
            m-th of M equal parts of the teacher (TinyBERT's g(m), PKD-Skip); ``first`` or ``last``:
            with the teacher's first or last M layers; or the pairs themselves,
            ``[[student, teacher], ...]``, where negative numbers count from the end.
        student: number of layers of the student.
        teacher: number of layers of the teacher.
        path: name of the option in messages.
        but_last: leave out the student's last layer, as PKD does: the loss on logits trains it.

    Raises:
        UserError: for a layer that does not exist, or if no pair is left.

    >>> layer_pairs("uniform", 3, 6, "layers")
    [(0, 1), (1, 3), (2, 5)]
    """
    if isinstance(layers, str):
        return _by_strategy(layers, student, teacher, path, but_last)
    if but_last:
        raise UserError(
            f"{path} names the pairs, so but_last would be ignored: set "
            f"{path.rpartition('.')[0]}.but_last=false"
        )
    pairs = []
    for pair in layers:
        if len(pair) != 2:
            raise UserError(f"{path}={layers}: each pair is [student, teacher]")
        pairs.append(
            (
                _layer_index(pair[0], student, "student", path),
                _layer_index(pair[1], teacher, "teacher", path),
            )
        )
    if not pairs:
        raise UserError(f"{path}=[]: name at least one pair of layers")
    return pairs


def _by_strategy(
    strategy: str, student: int, teacher: int, path: str, but_last: bool
) -> list[tuple[int, int]]:
    if strategy not in ("uniform", "first", "last"):
        raise UserError(f"{path}={strategy}: choose uniform, first, last or a list of pairs")
    if student > teacher:
        raise UserError(
            f"{path}={strategy}: the student has {student} layers, the teacher {teacher}: name "
            "the pairs, [[student, teacher], ...]"
        )
    teacher_layers = {
        "uniform": [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)],
        "first": list(range(student)),
        "last": list(range(teacher - student, teacher)),
    }[strategy]
    pairs = list(enumerate(teacher_layers))[: student - 1 if but_last else student]
    if not pairs:
        raise UserError(f"{path}: a student of one layer has no layer before its last to compare")
    return pairs


def _layer_index(layer: int, depth: int, role: str, path: str) -> int:
    if not -depth <= layer < depth:
        raise UserError(f"{path}: the {role} has the layers 0 to {depth - 1}, not {layer}")
    return layer % depth
