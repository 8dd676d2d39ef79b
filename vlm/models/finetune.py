"""How much of a dual encoder is trained: its towers stay frozen, get low-rank additions (LoRA), or learn as a whole.

The only file that imports peft, an optional package (``pip install 'vlm-retrieval[lora]'``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.utils import parametrize

from vlm.encoders.base import TowerAccess
from vlm.errors import BackendUnavailable, InputError
from vlm.ssm.stack import check_word, count_parameters

Mode = Literal["heads", "adapters", "lora", "towers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """What is trained.

    Attributes:
        mode: ``heads``: what stands on the towers' vectors. ``adapters``: and the temporal adapters in the vision tower. ``lora``: and
            low-rank additions (Hu et al. 2021) to the attention and feed-forward of both towers. ``towers``: heads, adapters and all
            weights of both towers.
        lora_rank, lora_alpha, lora_dropout: of the additions, ``alpha / rank * B A x``; B is zero at first.
    """

    mode: Mode = "adapters"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_word("mode", self.mode, get_args(Mode))
        if self.lora_rank < 1 or self.lora_alpha <= 0 or not 0 <= self.lora_dropout < 1:
            raise InputError(
                "lora_rank must be at least 1, lora_alpha positive and lora_dropout in [0, 1), "
                f"got {self.lora_rank}, {self.lora_alpha:g} and {self.lora_dropout:g}"
            )


class OpenTowers(nn.Module):
    """What is trained inside the towers of ``access``, and nothing else: the state of this module is what a checkpoint needs of them.

    The towers are changed in place and stay the encoder's. A new one leaves every vector as it was. LoRA is saved as what is added, not
    merged into the weights: a few megabytes, and the encoder's own files stay the truth.

    Raises:
        InputError: LoRA finds nothing in a tower to add to, or was added before. BackendUnavailable: peft is asked for and not installed.
    """

    def __init__(self, access: TowerAccess, config: FinetuneConfig) -> None:
        super().__init__()
        towers = {"vision": access.vision, "text": access.text}
        for tower in towers.values():
            tower.requires_grad_(False)
        if config.mode == "lora":
            self.lora = nn.ModuleDict({name: _add_lora(tower, name, config) for name, tower in towers.items()})
        elif config.mode == "towers":
            self.towers = nn.ModuleDict(towers).requires_grad_(True)


def _add_lora(tower: nn.Module, name: str, config: FinetuneConfig) -> nn.ModuleDict:
    """The additions, by the place of the layer that each belongs to."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise BackendUnavailable("mode = 'lora' needs peft: pip install 'vlm-retrieval[lora]', or choose 'adapters' or 'towers'") from error
    if any(isinstance(part, LoraLayer | _LowRank) for part in tower.modules()):
        raise InputError(f"the {name} tower has LoRA in it already: load the encoder anew before another training")
    targets = [(place, tower.get_submodule(place)) for place in block_products(tower)]
    if not targets:
        raise InputError(f"LoRA finds no attention or feed-forward in blocks of the {name} tower: choose mode 'adapters' or 'towers'")
    linear = [place for place, part in targets if isinstance(part, nn.Linear)]
    if linear:
        wanted = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules=linear)
        inject_adapter_in_model(wanted, tower)
    added = {place: _additions(part) for place, part in tower.named_modules() if isinstance(part, LoraLayer)}
    for place, part in targets:
        if isinstance(part, nn.MultiheadAttention):
            added[place] = nn.ModuleDict(_add_to_attention(part, config))
    return nn.ModuleDict({place.replace(".", "/"): addition for place, addition in added.items()})


def _additions(layer: Any) -> nn.Module:
    return nn.ModuleDict({"A": layer.lora_A, "B": layer.lora_B, "dropout": layer.lora_dropout})


class _LowRank(nn.Module):
    """``weight + alpha / rank * B A`` for a weight (out, in).

    For torch's own attention, as open_clip has it: peft merges into its weights and out of them again at every step, and each time the
    frozen weights lose bits; a run would not resume to the same numbers. There is no dropout on this way.
    """

    def __init__(self, weight: Tensor, config: FinetuneConfig) -> None:
        super().__init__()
        self.A = nn.Parameter(weight.new_empty(config.lora_rank, weight.shape[1]))
        self.B = nn.Parameter(weight.new_zeros(weight.shape[0], config.lora_rank))
        self.scale = config.lora_alpha / config.lora_rank
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.B @ self.A)


def _add_to_attention(attention: nn.MultiheadAttention, config: FinetuneConfig) -> dict[str, nn.Module]:
    inner = [f"{part}_proj_weight" for part in ("q", "k", "v")] if attention.in_proj_weight is None else ["in_proj_weight"]
    added: dict[str, nn.Module] = {}
    for owner, name in [*((attention, name) for name in inner), (attention.out_proj, "weight")]:
        added[name] = _LowRank(getattr(owner, name), config)
        parametrize.register_parametrization(owner, name, added[name])
    return added


def block_products(tower: nn.Module) -> Iterator[str]:
    """Names of the linear maps and attentions inside the numbered blocks of a tower: not the projections behind them."""
    attention: str | None = None
    for name, part in tower.named_modules():
        if attention is not None and name.startswith(f"{attention}."):
            continue  # its own projections are seen to by the attention
        if isinstance(part, nn.Linear | nn.MultiheadAttention) and any(piece.isdigit() for piece in name.split(".")):
            attention = name if isinstance(part, nn.MultiheadAttention) else None
            yield name


def told_parameters(parts: Iterable[tuple[str, nn.Module]], access: TowerAccess) -> str:
    """How many numbers each part learns, and how many of the towers are frozen: a line for people."""
    counts = {name: count for name, part in parts if (count := count_parameters(part))}
    frozen = sum(p.numel() for tower in (access.vision, access.text) for p in tower.parameters() if not p.requires_grad)
    each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"trains {sum(counts.values()):,} parameters ({each}); {frozen:,} of the towers are frozen"
