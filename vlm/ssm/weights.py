"""Published weights into our mixers and stacks, from mamba_ssm, Vim and Video Mamba Suite: checked before a number is copied.

One mixer's names are the same everywhere: ``in_proj``, ``conv1d``, ``x_proj``, ``dt_proj``, ``A_log``, ``D``, ``out_proj``, and for ViM
a ``_b`` set. What stands in front of them differs, and is found, not asked for.

    backbone.layers.0.mixer.in_proj.weight   backbone.layers.0.norm.weight   backbone.norm_f.weight    mamba_ssm
             layers.0.mixer.in_proj.weight            layers.0.norm.weight            norm_f.weight    Vim, and our own Stack
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vlm.errors import EncoderMismatch, WeightsUnavailable
from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.stack import Stack

# Wrappers of trainers around the dictionary that holds the tensors, and in front of the names in it.
WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
PREFIX = re.compile(r"^(?P<root>(?:.*\.)?)layers\.(?P<layer>\d+)\.mixer\.")


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a ``.pt``, ``.pth``, ``.bin`` file, of which nothing but tensors is read.

    Raises:
        WeightsUnavailable: the file is not there, or is not what its name says, or holds code.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # weights_only: a pickle may run any code when it is read.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsUnavailable(f"{path} cannot be read as weights: {error}; give a .safetensors file, or one of tensors alone") from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsUnavailable(f"{path} holds no dictionary of tensors; save model.state_dict()")
    return dict(found)


def load_mixer(mixer: Mamba | ViM | DBM, state_dict: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copies the tensors whose names start with ``prefix`` into ``mixer``; all of them, and nothing else may stand under the prefix.

    Raises:
        EncoderMismatch: a name is missing or too many, or a shape differs; the message lists all of them, and ``mixer`` is unchanged.
    """
    _load(mixer, {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}, f"{prefix}*")


def load_stack(stack: Stack, state_dict: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names that ``stack`` has no place for, such as embeddings and heads, after every layer and the last norm were copied into it.

    The layers are found by their names, whatever stands in front of them.

    Raises:
        EncoderMismatch: there are no layers, more or fewer than in ``stack``, a name of a layer is missing or too many, or a shape differs;
            the message lists all of them, and ``stack`` is unchanged.
    """
    places = [match for name in state_dict if (match := PREFIX.match(name))]
    roots = sorted({match["root"] for match in places})
    if len(roots) != 1:
        raise EncoderMismatch(
            f"the weights must hold the layers of one stack, named '…layers.0.mixer.…', got those of {len(roots)}: {_some(roots)}; "
            f"the first names are {_some(list(state_dict))}"
        )
    layers = {int(match["layer"]) for match in places}
    if layers != set(range(len(stack.layers))):
        raise EncoderMismatch(f"the stack has {len(stack.layers)} layers, the weights have {len(layers)}, numbered up to {max(layers)}")
    root = roots[0]
    parts = (f"{root}layers.", f"{root}norm_f.")
    ours = {name: value for name, value in state_dict.items() if name.startswith(parts)}
    _load(stack, {name.removeprefix(root): value for name, value in ours.items()}, f"{root}layers.*")
    return tuple(name for name in state_dict if name not in ours)


def _load(module: nn.Module, found: Mapping[str, Tensor], what: str) -> None:
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    shapes = [
        f"{name} is {tuple(found[name].shape)}, must be {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    if missing or extra or shapes:
        kind = type(module).__name__
        problems = [f"{title}: {_some(names)}" for title, names in (("missing", missing), ("extra", extra), ("shapes", shapes)) if names]
        raise EncoderMismatch(f"the weights {what!r} do not fit {kind}: {'; '.join(problems)}. {_advice(missing, extra)}")
    module.load_state_dict(found)


def _advice(missing: list[str], extra: list[str]) -> str:
    """The way out that the names suggest."""
    if any(name.endswith("A_b_log") for name in extra):
        return "They have two directions: build a 'vim'"
    if any(name.endswith("A_b_log") for name in missing):
        return "They have one set of parameters: build a 'mamba' or a 'dbm'"
    if missing or extra:
        return "Build the mixer, norm and feed-forward that they were made for"
    return "Build it with the sizes that they were made for; a 'dbm' has twice the rows of in_proj of a 'mamba' of the same expand"


def _some(names: list[str], most: int = 12) -> str:
    """The names, or as many as can be read."""
    listed = ", ".join(names[:most]) or "none"
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
