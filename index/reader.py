"""Who answers what over a library: its trained model where that was found to be better, the encoder alone elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader
from vlm.types import Answer, Features, Grounded


class SkilledReader:
    """A trained reader for its ``skills`` (of index.model.SKILLS) and for vectors, a plain one for the rest."""

    def __init__(self, trained: TrainedReader, plain: PlainReader, skills: Collection[str]) -> None:
        self._trained, self._plain, self._skills = trained, plain, frozenset(skills)

    @property
    def tells_presence(self) -> bool:
        """By the skill ``ground``."""
        return self._with("ground").tells_presence

    def embed_video(self, features: Features) -> NDArray[np.float32]:
        """The adapters' vector, as the library's segments have them."""
        return self._trained.embed_video(features)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The adapters' vectors, comparable with those of segments."""
        return self._trained.embed_texts(texts)

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        """By the skill ``ground``; raises as the reader whose turn it is."""
        return self._with("ground").ground(texts, features)

    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        """By the skill ``ground``; raises as the reader whose turn it is."""
        return self._with("ground").ground_each(text, videos)

    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> list[list[NDArray[np.float32]]] | None:
        """By the skill ``ground``; raises as the reader whose turn it is."""
        return self._with("ground").holds(texts, videos)

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """By the skill ``choose`` where there are options, else by ``answer``; raises as the reader whose turn it is."""
        return self._with("choose" if options else "answer").answer(question, features, options=options)

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """By the reader that answers."""
        return self._with("choose" if options else "answer").probability(question, text, features, options=options)

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """By the reader that answers."""
        return self._with("choose" if options else "answer").blind(question, features, options=options)

    def _with(self, skill: str) -> Reader:
        return self._trained if skill in self._skills else self._plain
