"""Entities in sequences of tags, counted as the CoNLL-2000 script `conlleval` counts them.

A tag says where in an entity a word stands: `B-` begins one, `I-` is inside, `E-` ends one, `S-` is
one by itself, `O` is outside. IOB1, IOB2, IOBES and their relatives (`L-` for E, `U-` for S, `M-`
for I) are all read by the same rules, and so are sequences that follow none: an `I-` after `O`, or
after another type, begins an entity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.core.errors import UserError

OUTSIDE = "O"
# What the letters before the type mean; other schemes' own names beside them.
_KINDS = {"O": 0, "B": 1, "I": 2, "M": 2, "E": 3, "L": 3, "S": 4, "U": 4}
_OUTSIDE, _BEGIN, _INSIDE, _END, _SINGLE = range(5)
_TYPED = re.compile(r"([BIMELSU])-(.+)", re.DOTALL)
# The only type where tags name none (`B`, `I`, `O`).
ONLY_TYPE = "entity"


@dataclass(frozen=True)
class EntitySpans:
    """The entities of some sentences, one after another.

    Attributes:
        first: indices of their first words, ``(E,)``, ascending.
        last: of their last ones, ``(E,)``.
        types: of each, ``(E,)``.
        implicit: whether each begins without a tag that says so, ``(E,)``.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    types: NDArray[np.int64]
    implicit: NDArray[np.bool_]

    def among(self, others: "EntitySpans") -> NDArray[np.bool_]:
        """Which of them are the same words with the same type as one of the others, ``(E,)``."""
        _, mine, theirs = np.intersect1d(
            self.first, others.first, assume_unique=True, return_indices=True
        )
        same = self.last[mine] == others.last[theirs]
        same &= self.types[mine] == others.types[theirs]
        found = np.zeros(len(self.first), dtype=bool)
        found[mine[same]] = True
        return found


class TagScheme:
    """What each of a set of tags means.

    Args:
        kinds: where in an entity each tag stands, ``(C,)``.
        types: which type it has, ``(C,)``; -1 of ``O``.
        names: of the types.
    """

    def __init__(self, kinds: Sequence[int], types: Sequence[int], names: Sequence[str]):
        # Tag -1, that of a word without any, is outside too.
        self.kinds, self.types = np.array([*kinds, _OUTSIDE]), np.array([*types, -1])
        self.names = list(names)

    @classmethod
    def of(cls, tags: Sequence[str]) -> "TagScheme | None":
        """The scheme of a set of tags; ``None`` if they mark no entities, as parts of speech.

        Raises:
            UserError: if some of them do and others cannot be read so.
        """
        rest = [tag for tag in tags if tag != OUTSIDE]
        if {"B", "I"} & set(rest) and set(rest) <= _KINDS.keys():
            read = {tag: (_KINDS[tag], ONLY_TYPE) for tag in rest}
        else:
            matches = {tag: _TYPED.fullmatch(tag) for tag in rest}
            read = {tag: (_KINDS[m[1]], m[2]) for tag, m in matches.items() if m}
            if not {tag[0] for tag in read} & {"B", "I"}:
                return None
            strange = [tag for tag in rest if tag not in read]
            if strange:
                raise UserError(
                    f"the tag '{strange[0]}' stands among tags of entities ({next(iter(read))}) "
                    "and is none: O, or B-, I-, E-, S- and a type; mend it, or take the tags as "
                    "they are with task.metric=accuracy"
                )
        names = sorted({kind for _, kind in read.values()})
        kinds = [read[tag][0] if tag in read else _OUTSIDE for tag in tags]
        types = [names.index(read[tag][1]) if tag in read else -1 for tag in tags]
        return cls(kinds, types, names)

    def entities(self, tags: NDArray[np.integer], begins: NDArray[np.bool_]) -> EntitySpans:
        """The entities that tags mark, by the rules of `conlleval`.

        A word that is not outside begins an entity if it says so (B, S), if the word before it
        ended one (E, S) or is outside or of another sentence, or if that one's type is another.
        An entity lasts until the next begins or a word is outside.

        Args:
            tags: ids of all words, sentence after sentence, ``(W,)``; -1 is outside.
            begins: which words are the first of a sentence, ``(W,)``.
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
        goes_on = np.concatenate([(inside & ~starts)[1:], [False]])
        first, last = np.flatnonzero(starts), np.flatnonzero(inside & ~goes_on)
        return EntitySpans(first, last, types[first], ~explicit[first])
