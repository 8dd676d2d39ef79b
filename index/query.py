"""What is searched for: texts, pictures and footage, added and taken away, as one vector among those of the segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.threads import one_thread
from vlm.errors import BadVectors, InputError, QueryError
from vlm.index.cache import EncodeTexts
from vlm.index.footage import Footage
from vlm.index.search import checked_query

if TYPE_CHECKING:
    from vlm.models.plain import Reader

Look = TypeVar("Look")
# Below this length a sum has no direction worth searching for.
SHORTEST = 1e-3


@dataclass(frozen=True, slots=True)
class Term:
    """A text or footage, and how much it counts: above 0 hits should be like it, below 0 unlike it."""

    what: str | Footage
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.weight) or self.weight == 0:
            raise InputError(f"a weight must be a number other than 0, got {self.weight:g} for {self.name!r}")

    @property
    def name(self) -> str:
        """What people call it."""
        return self.what if isinstance(self.what, str) else self.what.name


def terms_of(
    query: str,
    plus: Sequence[str | tuple[str, float]],
    minus: Sequence[str | tuple[str, float]],
    looks: Sequence[Look],
    open_look: Callable[[Look], Footage],
) -> list[Term]:
    """What is searched for; all texts are checked before footage is opened.

    Raises:
        QueryError: a text is empty or too long, or nothing says what should be seen. InputError: a weight that is none.
    """
    texts = [(query, 1.0)] if query or not (looks or plus or minus) else []
    texts += [(text, 1.0) if isinstance(text, str) else text for text in plus]
    texts += [(text, -1.0) if isinstance(text, str) else (text[0], -text[1]) for text in minus]
    terms = [Term(checked_query(text), weight) for text, weight in texts]
    if not looks:
        need_something(terms)
    return [*terms, *(Term(open_look(look)) for look in looks)]


def told(terms: Sequence[Term]) -> str:
    """The terms in words, as a result names its query."""
    words = ""
    for term in terms:
        weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g} * "
        sign = ("" if term.weight > 0 else "- ") if not words else (" + " if term.weight > 0 else " - ")
        words += f"{sign}{weight}{term.name}"
    return words


def need_something(terms: Sequence[Term]) -> None:
    """Raises QueryError where no term counts more than 0."""
    if not any(term.weight > 0 for term in terms):
        raise QueryError(
            f"{told(terms)!r} says only what hits should be unlike: say what should be seen, and take away from that "
            "(--minus beside a query)"
        )


def query_vector(terms: Sequence[Term], embed_texts: EncodeTexts, reader: Reader | None, *, dim: int) -> NDArray[np.float32]:
    """The unit vector (1, d) of the weighted sum of the terms' unit vectors (as rclip and word vectors add and subtract).

    ``reader`` makes vectors of footage; None where there is none among the terms.

    Raises:
        QueryError: no term counts more than 0, or the terms cancel out. BadVectors: a vector is not finite.
    """
    need_something(terms)
    total = np.zeros((1, dim))
    for term in terms:
        if isinstance(term.what, str):
            with one_thread():
                vector = embed_texts([term.what])
        else:
            assert reader is not None
            vector = reader.embed_video(term.what.features)[None]
        if vector.shape != (1, dim) or not np.isfinite(vector).all():
            raise BadVectors(f"the encoder gave no finite vector of width {dim} for {term.name!r}")
        total += term.weight * vector
    if len(terms) == 1:
        return vector
    length = float(np.linalg.norm(total))
    if length < SHORTEST:
        raise QueryError(f"the parts of the query cancel out: {told(terms)}")
    unit: NDArray[np.float32] = (total / length).astype(np.float32)
    return unit
