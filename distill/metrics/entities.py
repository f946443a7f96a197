"""Entities in sequences of tags, counted as the CoNLL-2000 script `conlleval` counts them.

A tag gives the position of a word in an entity: `B-` begins one, `I-` is inside, `E-` ends one,
`S-` is one by itself, `O` is outside. IOB1, IOB2, IOBES and their variants (`L-` for E, `U-` for S,
`M-` for I) are all read by the same rules, and so are sequences that follow none: an `I-` after `O`
or after another type begins an entity. The type may also stand first, as in `PER-B` or `PER_B`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.core.errors import UserError

OUTSIDE = "O"
"""Tag of a word outside every entity."""
# Positions in an entity by the letter before the type, including those of other schemes.
_KINDS = {"O": 0, "B": 1, "I": 2, "M": 2, "E": 3, "L": 3, "S": 4, "U": 4}
_OUTSIDE, _BEGIN, _INSIDE, _END, _SINGLE = range(5)
_TYPED = re.compile(r"([BIMELSU])-(.+)", re.DOTALL)
_TYPE_FIRST = re.compile(r"(.+)[-_]([BIMELSU])", re.DOTALL)
ONLY_TYPE = "entity"
"""Name of the only type if tags name none (`B`, `I`, `O`)."""


def _parse(tags: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return position and type of the tags that have both, in either order.

    The type stands first only if it does in all of them, and one marks a beginning or an inside.
    """
    typed = {tag: _TYPED.fullmatch(tag) for tag in tags}
    parsed = {tag: (_KINDS[match[1]], match[2]) for tag, match in typed.items() if match}
    reversed_ = {tag: _TYPE_FIRST.fullmatch(tag) for tag in tags}
    if len(parsed) < len(tags) and all(reversed_.values()):
        return {tag: (_KINDS[match[2]], match[1]) for tag, match in reversed_.items() if match}
    return parsed


@dataclass(frozen=True)
class EntitySpans:
    """Entities of several sentences in their order.

    Attributes:
        first: indices of their first words, ``(E,)``, ascending.
        last: indices of their last words, ``(E,)``.
        types: type ids, ``(E,)``.
        implicit: whether an entity begins without a tag for a beginning, ``(E,)``.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    types: NDArray[np.int64]
    implicit: NDArray[np.bool_]

    def among(self, others: "EntitySpans") -> NDArray[np.bool_]:
        """Return which entities are also among others, with equal words and type, ``(E,)``."""
        _, index, other_index = np.intersect1d(
            self.first, others.first, assume_unique=True, return_indices=True
        )
        equal = self.last[index] == others.last[other_index]
        equal &= self.types[index] == others.types[other_index]
        found = np.zeros(len(self.first), dtype=bool)
        found[index[equal]] = True
        return found


class TagScheme:
    """Position and type that each tag of a label set stands for.

    Args:
        kinds: position in an entity by tag id, ``(C,)``.
        types: type id by tag id, ``(C,)``; -1 for ``O``.
        names: names of the types.
    """

    def __init__(self, kinds: Sequence[int], types: Sequence[int], names: Sequence[str]):
        # Tag -1, of a word without a tag, is outside too.
        self.kinds, self.types = np.array([*kinds, _OUTSIDE]), np.array([*types, -1])
        self.names = list(names)

    @classmethod
    def of(cls, tags: Sequence[str]) -> "TagScheme | None":
        """Return the scheme of a label set; ``None`` if it marks no entities (parts of speech).

        Raises:
            UserError: if some tags mark entities and others cannot be parsed.
        """
        inside = [tag for tag in tags if tag != OUTSIDE]
        if {"B", "I"} & set(inside) and set(inside) <= _KINDS.keys():
            parsed = {tag: (_KINDS[tag], ONLY_TYPE) for tag in inside}
        else:
            parsed = _parse(inside)
            if not {kind for kind, _ in parsed.values()} & {_BEGIN, _INSIDE}:
                return None
            unknown = [tag for tag in inside if tag not in parsed]
            if unknown:
                raise UserError(
                    f"the tag '{unknown[0]}' stands among tags of entities ({next(iter(parsed))}) "
                    "and is none (O, or B-, I-, E-, S- and a type): correct it, or use the tags "
                    "as they are with task.metric=accuracy"
                )
        names = sorted({name for _, name in parsed.values()})
        kinds = [parsed[tag][0] if tag in parsed else _OUTSIDE for tag in tags]
        types = [names.index(parsed[tag][1]) if tag in parsed else -1 for tag in tags]
        return cls(kinds, types, names)

    def entities(self, tags: NDArray[np.integer], begins: NDArray[np.bool_]) -> EntitySpans:
        """Extract the entities that tags mark, by the rules of `conlleval`.

        A word that is not outside begins an entity if its tag is B or S, if the previous word has
        the tag E or S, another type, or is outside or in another sentence. An entity lasts until
        the next one begins or a word is outside.

        Args:
            tags: tag ids of all words, sentence after sentence, ``(W,)``; -1 is outside.
            begins: whether a word is the first of its sentence, ``(W,)``.
        """
        kinds, types = self.kinds[tags], self.types[tags]
        before = np.concatenate([[_OUTSIDE], kinds[:-1]])
        before = np.where(begins, _OUTSIDE, before)
        inside = kinds != _OUTSIDE
        explicit = np.isin(kinds, (_BEGIN, _SINGLE))
        starts = inside & (
            explicit
            | np.isin(before, (_OUTSIDE, _END, _SINGLE))
            | (types != np.concatenate([[-1], types[:-1]]))
        )
        continues = np.concatenate([(inside & ~starts)[1:], [False]])
        first, last = np.flatnonzero(starts), np.flatnonzero(inside & ~continues)
        return EntitySpans(first, last, types[first], ~explicit[first])
