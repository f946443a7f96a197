"""Which layer of the student looks at which layer of the teacher."""

from typing import Literal

from distill.core.errors import UserError

LayerMap = list[list[int]] | Literal["uniform", "first", "last"]


def layer_pairs(
    layers: LayerMap, student: int, teacher: int, path: str, but_last: bool = False
) -> list[tuple[int, int]]:
    """Pairs of layers, counted from 0.

    Args:
        layers: ``uniform``: the student's layer m of M looks at the end of the m-th of M equal
            parts of the teacher (TinyBERT's g(m), PKD's "skip"); ``first`` or ``last``: at the
            teacher's first or last M; or the pairs themselves, ``[[student, teacher], ...]``, with
            negative numbers counted from the end.
        student: the student's layers.
        teacher: the teacher's layers.
        path: how messages call the option.
        but_last: leave out the student's last layer (PKD: what it should say, the head tells).

    Raises:
        UserError: for a layer that does not exist, or if no pair is left.

    >>> layer_pairs("uniform", 3, 6, "layers")
    [(0, 1), (1, 3), (2, 5)]
    """
    if isinstance(layers, str):
        if layers not in ("uniform", "first", "last"):
            raise UserError(f"{path}={layers}: choose uniform, first, last or a list of pairs")
        if student > teacher:
            raise UserError(
                f"{path}={layers}: the student has {student} layers, the teacher {teacher}: name "
                "the pairs, [[student, teacher], ...]"
            )
        matched = {
            "uniform": [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)],
            "first": list(range(student)),
            "last": list(range(teacher - student, teacher)),
        }[layers]
        pairs = list(enumerate(matched))[: student - 1 if but_last else student]
        if not pairs:
            raise UserError(f"{path}: a student of one layer has none before its last to compare")
        return pairs
    if but_last:
        raise UserError(
            f"{path} names the pairs, so but_last would be ignored: set "
            f"{path.rpartition('.')[0]}.but_last=false"
        )
    pairs = []
    for pair in layers:
        if len(pair) != 2:
            raise UserError(f"{path}={layers}: each pair is [student, teacher]")
        whole = []
        for layer, depth, who in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
            if not -depth <= layer < depth:
                raise UserError(f"{path}: the {who} has the layers 0 to {depth - 1}, not {layer}")
            whole.append(layer % depth)
        pairs.append((whole[0], whole[1]))
    if not pairs:
        raise UserError(f"{path}=[]: name at least one pair of layers")
    return pairs
