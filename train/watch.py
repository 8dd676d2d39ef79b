"""Early stop: the averaged weights are measured now and then, the best are kept, and a training that no longer gains ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlm.errors import InputError, TrainingDiverged
from vlm.train.optim import Average
from vlm.train.ranks import of_all_ranks

Validate = Callable[[nn.Module], float]


class Watch:
    """Measures by ``validate`` after every ``every`` steps; a figure to be raised. It is over when ``patience`` measurements in a row were
    no better than the best before them; patience 0 never ends.

    Raises:
        InputError: patience without anything to measure by.
    """

    def __init__(self, validate: Validate | None, *, every: int, patience: int) -> None:
        if patience and validate is None:
            raise InputError(f"patience = {patience} needs something to measure by, and this training has none: set patience = 0 in [loop]")
        self._validate, self._every, self._patience = validate, every, patience
        self._best, self._since = -math.inf, 0
        self._values: dict[str, Tensor] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the training should end."""
        return 0 < self._patience <= self._since

    def look(self, step: int, module: nn.Module, average: Average) -> dict[str, float]:
        """What was measured after step ``step`` (from 0), for the log; nothing between measurements.

        Raises:
            TrainingDiverged: the figure is no number.
        """
        if self._validate is None or (step + 1) % self._every:
            return {}
        device = next(iter(average.values.values())).device
        with averaged(module, average.values), torch.random.fork_rng([device] if device.type == "cuda" else []):
            value = float(of_all_ranks(float(self._validate(module)))[0])  # measured by all, decided by the first
        if math.isnan(value):
            raise TrainingDiverged(f"what validates the training gave {value:g} after step {step}")
        if value > self._best:
            self._best, self._since = value, 0
            self._values = {name: held.clone() for name, held in average.values.items()}
        else:
            self._since += 1
        return {"validation": value}

    def told(self, step: int) -> str:
        """Why the training ended after step ``step`` (from 0): a line for people."""
        return f"stopped after step {step + 1}: {self._since} measurements in a row were no better than {self._best:.4g}"

    def best(self, average: Average) -> Average:
        """``average`` with the best weights that were measured; as it is where none were."""
        if self._values is not None:
            average.values = self._values
        return average

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs, for a checkpoint."""
        return {} if self._validate is None else {"best": self._best, "since": self._since, "values": self._values}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from ``state``."""
        if self._validate is not None and state:
            self._best, self._since = float(state["best"]), int(state["since"])
            self._values = None if state["values"] is None else {name: value.to(device) for name, value in state["values"].items()}


@contextmanager
def averaged(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """While it lasts, ``module`` has these weights and is in evaluation, without gradients; afterwards it is as it was."""
    own = {name: value.clone() for name, value in module.state_dict().items()}
    training = [part for part in module.modules() if part.training]
    module.load_state_dict(values)
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.load_state_dict(own)
        for part in training:
            part.training = True
