"""Small models of the suite, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm.models.suite.anticipation import AnticipationConfig, Anticipator
from vlm.models.suite.localization import ActionMamba, LocalizationConfig
from vlm.models.suite.segmentation import ASMamba, SegmentationConfig

DIM = 6
MIXERS = ("mamba", "vim", "dbm", "attention")


def localizer(**changes: Any) -> ActionMamba:
    torch.manual_seed(0)
    wanted = {"width": 16, "branch_layers": 2, "stem_layers": 1, "head_layers": 1, "d_state": 4, "num_heads": 2, "window": 3} | changes
    return ActionMamba(LocalizationConfig(encoder="toy", fingerprint="abc", dim=DIM, classes=("run", "jump", "swim"), **wanted)).eval()


def segmenter(**changes: Any) -> ASMamba:
    torch.manual_seed(0)
    wanted = {"width": 16, "num_layers": 3, "d_state": 4} | changes
    return ASMamba(
        SegmentationConfig(encoder="toy", fingerprint="abc", dim=DIM, classes=("nothing", "run", "jump"), background=("nothing",), **wanted)
    ).eval()


def anticipator(**changes: Any) -> Anticipator:
    torch.manual_seed(0)
    classes = ("run, cat", "jump, cat", "run, dog", "swim, cat")
    wanted = {"classes": classes, "horizons": (0.5, 1.0), "width": 16, "num_layers": 2, "d_state": 4, "memory_seconds": 2.0} | changes
    model = Anticipator(AnticipationConfig(encoder="toy", fingerprint="abc", dim=DIM, **wanted))
    torch.nn.init.normal_(model.action.weight)  # at first it is zero
    return model.eval()


def frames(*lengths: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, DIM, generator=generator, dtype=dtype) for length in lengths]
