"""Published weights of Vision Mamba into a ViViM, by their names: checked before a number is copied.

Names of the files of Vim (arXiv 2401.09417, "mid-class-token" models, trained on ImageNet-1k):
    cls_token (1, 1, width)   pos_embed (1, 1 + patches, width)   patch_embed.proj.weight (width, 3, p, p), patch_embed.proj.bias (width)
    layers.N.norm.weight      layers.N.mixer.*                    norm_f.weight                          head.weight, head.bias
Those of layers are found by ``vlm.ssm.weights``. The head tells ImageNet's classes and stays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vlm.errors import EncoderMismatch, InputError
from vlm.models.suite.vivim import ViViM, inflated, resized_positions
from vlm.ssm.weights import load_stack, read_state_dict

CLASS_TOKEN, POSITIONS, KERNEL, BIAS = "cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"
HEADS = frozenset({"head.weight", "head.bias"})


def load_vim(model: ViViM, path: Path | str) -> None:
    """Fill a ViViM from a file of Vim's weights, as ``load_vim_tensors``; raises WeightsUnavailable too, where it cannot be read."""
    load_vim_tensors(model, read_state_dict(path), where=str(path))


@torch.no_grad()
def load_vim_tensors(model: ViViM, tensors: Mapping[str, Tensor], *, where: str = "weights") -> None:
    """Fill a ViViM from the tensors of a Vim: with one frame, and its position in time at zero, it then gives Vim's class token.

    Positions are interpolated to the model's grid; the kernel of patches is spread over the frames of a tubelet (``inflated``); positions
    in time stay as they are.

    Raises:
        EncoderMismatch: a name is missing or too many, or a shape differs; the model is unchanged.
    """
    own = {CLASS_TOKEN, POSITIONS, KERNEL, BIAS}
    layers = {name: value for name, value in tensors.items() if name.startswith(("layers.", "norm_f."))}
    missing = sorted(own - tensors.keys())
    extra = sorted(tensors.keys() - own - layers.keys() - HEADS)
    config = model.config
    shapes = [] if missing else _wrong_shapes(tensors, config.width, config.patch)
    if missing or extra or shapes:
        told = [f"{what} {', '.join(names)}" for what, names in (("missing:", missing), ("extra:", extra), ("shapes:", shapes)) if names]
        raise EncoderMismatch(
            f"the tensors of {where!r} are not those of a Vim that fits this ViViM: {'; '.join(told)}. It needs the names that Vim's "
            "'midclstok' files have, a class token in the middle of the patches, and the width and patch of the config"
        )
    try:
        positions = resized_positions(tensors[POSITIONS][0], config.side)
    except InputError as error:
        raise EncoderMismatch(f"{POSITIONS} of {where!r} cannot be used: {error}") from error
    load_stack(model.stack, layers)
    model.position.copy_(positions)
    model.class_token.copy_(tensors[CLASS_TOKEN].flatten())
    model.patch_embed.weight.zero_()  # of how pictures change Vim knows nothing
    model.patch_embed.weight[:, :3].copy_(inflated(tensors[KERNEL], config.tubelet))
    assert model.patch_embed.bias is not None
    model.patch_embed.bias.copy_(tensors[BIAS])


def _wrong_shapes(tensors: Mapping[str, Tensor], width: int, patch: int) -> list[str]:
    wanted: dict[str, tuple[int | None, ...]] = {
        CLASS_TOKEN: (1, 1, width),
        POSITIONS: (1, None, width),
        KERNEL: (width, 3, patch, patch),
        BIAS: (width,),
    }
    return [
        f"{name} is {tuple(tensors[name].shape)}, must be ({', '.join('any' if size is None else str(size) for size in shape)})"
        for name, shape in wanted.items()
        if not _fits(tensors[name].shape, shape)
    ]


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(size in (None, got) for size, got in zip(wanted, found, strict=True))
