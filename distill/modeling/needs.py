"""What a forward pass of student and teacher has to return for a loss."""

from collections.abc import Iterable
from enum import StrEnum


class Need(StrEnum):
    """One kind of model output that a loss term reads.

    A member equals its value: ``Need.LOGITS == "logits"``.
    """

    LOGITS = "logits"
    """Logits of the head. The teacher's may come from the cache."""
    HIDDEN_STATES = "hidden_states"
    """Output of the embeddings and of every layer. The teacher runs live."""
    FEATURE_MAPS = "feature_maps"
    """Maps of a convolutional network, the last of each size. The teacher runs live."""
    ATTENTION = "attention"
    """Queries, keys and values of every layer. The teacher runs live."""


def as_needs(needs: Iterable[str], owner: str) -> frozenset[Need]:
    """Convert names to a set of :class:`Need`.

    Args:
        needs: members or their values.
        owner: name of the class that declares them, for messages.

    Raises:
        TypeError: for a single string instead of a set.
        ValueError: for a name that is no member.

    >>> sorted(as_needs({"logits"}, "SoftTargets"))
    [<Need.LOGITS: 'logits'>]
    """
    if isinstance(needs, str):
        raise TypeError(f"{owner}.needs must be a set of Need, not the string {needs!r}")
    needs = list(needs)
    for need in needs:
        if need not in list(Need):
            raise ValueError(f"{owner}.needs has {need!r}: choose among {', '.join(Need)}")
    return frozenset(Need(need) for need in needs)
