"""Questions with frames in, answers out: what a larger answerer is to the rest of the house."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlm.types import Answer


class Answerer(Protocol):
    """A model that looks at the frames of the evidence; finding them is a Reader's work."""

    @property
    def name(self) -> str:
        """The spec that loads it again."""

    def answer(self, question: str, frames: NDArray[np.uint8], times: Sequence[float], *, options: Sequence[str] = ()) -> Answer:
        """The answer to ``question``, one of ``options`` where there are any; ``prior`` is what it answers without the frames.

        ``frames`` (n, h, w, 3) are RGB in order of time, ``times`` (n,) their seconds. The moments are the caller's: ``evidence`` is empty.
        """
