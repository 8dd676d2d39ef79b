"""New memory for results, which the system hands out in large pages where it can."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlm.ssm.native.library import load


def fresh(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory on the CPU that is about to be written, all of it.

    Without large pages a quarter of the time of a long sequence goes into the faults of small ones.
    """
    tensor = torch.empty(shape, dtype=dtype)
    load().functions.vlm_scan_expect_writes(tensor.data_ptr(), tensor.nbytes)
    return tensor
