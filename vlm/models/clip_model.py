"""A dual encoder for clips: the towers of an encoder with temporal adapters inside the vision tower, or a ViViM in its place; and a linear
head on either side.

A new one without ViViM gives CLIP's mean pooling: gates and LoRA are zero, and heads are the identity.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.encoders.base import Encoder, TowerAccess, Window
from vlm.errors import CheckpointUnusable, EncoderMismatch, InputError
from vlm.models.finetune import FinetuneConfig, OpenTowers, told_parameters
from vlm.models.suite.vivim import ViViM, ViViMConfig
from vlm.models.tower_adapter import TowerAdapter, TowerAdapterConfig
from vlm.ssm.stack import check_word
from vlm.types import Framing

CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", 2
VideoTower = Literal["encoder", "vivim"]
WINDOW = Window(frames=8, seconds=8.0, stride=4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTowerConfig(ViViMConfig):
    """What sees the clips: the encoder's own vision tower, with adapters; or a ViViM, whose numbers the other fields are."""

    kind: VideoTower = "encoder"

    def __post_init__(self) -> None:
        ViViMConfig.__post_init__(self)
        check_word("kind", self.kind, get_args(VideoTower))


class ClipModel(nn.Module):
    """Videos and captions to unit vectors in one space. Its parameters are those that ``finetune.mode`` trains, and a ViViM; frozen towers
    stay the encoder's and are in no checkpoint.

    Args:
        window: of what clips it is for, when it reads videos by windows.

    Raises:
        InputError: the encoder shows no towers, or they do not fit the mode; or a ViViM and another mode than ``heads``, or another number
            of frames than the window has. BackendUnavailable: LoRA without peft.
    """

    def __init__(
        self,
        encoder: Encoder,
        adapter: TowerAdapterConfig,
        finetune: FinetuneConfig,
        *,
        tower: VideoTowerConfig = VideoTowerConfig(),
        window: Window = WINDOW,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TowerAccess):
            raise InputError(f"encoder {encoder.name!r} shows no towers (TowerAccess): train on its stored vectors instead")
        is_vivim = tower.kind == "vivim"
        if is_vivim and (finetune.mode != "heads" or tower.num_frames != window.frames):
            raise InputError(
                f"a ViViM learns with mode 'heads' (the encoder's text tower stays as it is) and the window's number of frames, got "
                f"{finetune.mode!r}, and {tower.num_frames} frames for {window.frames}"
            )
        self.access: TowerAccess = encoder
        self.window = window
        self._signature = {
            "format": FORMAT,
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "adapter": asdict(adapter),
            "finetune": asdict(finetune),
            "tower": asdict(tower),
            "window": asdict(window),
        }
        self.opened = OpenTowers(encoder, finetune)
        self.adapter = None if finetune.mode == "heads" else TowerAdapter(encoder, adapter)
        self.vivim = ViViM(tower).to(encoder.device) if is_vivim else None
        self.framing: Framing = tower.reading.framing if is_vivim else encoder.preprocessing.framing
        self.text_head = _identity(encoder.dim, encoder.device)
        self.video_head = nn.Linear(tower.width, encoder.dim, device=encoder.device) if is_vivim else _identity(encoder.dim, encoder.device)

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Unit vectors (b, d) of clips (b, t, h, w, 3) uint8, framed as ``framing`` says."""
        if self.vivim is not None:
            return _headed(self.video_head, self.vivim(self.vivim.normalised(pixels)).float())
        b, t = pixels.shape[:2]
        normalised = self.access.preprocess(pixels.flatten(0, 1))
        if self.adapter is None:
            frames = self.access.forward_frames(normalised).reshape(b, t, -1)
        else:
            frames = self.adapter.frames(normalised.reshape(b, t, *normalised.shape[1:]))
        return _headed(self.video_head, F.normalize(frames.float(), dim=-1).mean(dim=1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (n, d)."""
        pooled, _, _ = self.access.forward_text(self.access.tokenize(texts))
        return _headed(self.text_head, F.normalize(pooled.float(), dim=-1))

    def told_parameters(self) -> str:
        """How many numbers each part learns: a line for people."""
        heads = nn.ModuleList([self.video_head, self.text_head])
        parts: Iterable[tuple[str, nn.Module]] = (
            ("heads", heads),
            ("adapters", self.adapter or nn.Identity()),
            ("ViViM", self.vivim or nn.Identity()),
            ("towers", self.opened),
        )
        return told_parameters(parts, self.access)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors: all that was trained, LoRA as what is added.

        Raises:
            OSError: it cannot be written; a model that was there is whole.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        beside = {name: folder / f".{name}.unfinished" for name in (WEIGHTS, CONFIG)}
        try:
            tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
            save_file(tensors, beside[WEIGHTS])
            beside[CONFIG].write_text(json.dumps(self._signature, indent=2) + "\n", "utf-8")
            for name, unfinished in beside.items():
                os.replace(unfinished, folder / name)
        except (SafetensorError, OSError) as error:
            raise OSError(f"the model cannot be written to {str(folder)!r} ({error}): free space there") from error
        finally:
            for unfinished in beside.values():
                unfinished.unlink(missing_ok=True)


def load_clip_model(folder: Path, encoder: Encoder) -> ClipModel:
    """The model that ``save`` wrote, on a freshly loaded ``encoder``, whose towers are changed in place.

    Raises:
        CheckpointUnusable: the folder holds no such model. EncoderMismatch: it was made for another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        held: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"its format is {held['format']}, this vlm reads {FORMAT}")
        adapter, finetune = TowerAdapterConfig(**held["adapter"]), FinetuneConfig(**held["finetune"])
        tower, window = VideoTowerConfig(**held["tower"]), Window(**held["window"])
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, InputError, SafetensorError) as error:
        raise CheckpointUnusable(
            f"{str(folder)!r} holds no model that train wrote ({error}): name the folder 'model' of a training"
        ) from error
    if held["fingerprint"] != encoder.fingerprint:
        raise EncoderMismatch(
            f"the model in {str(folder)!r} was trained on {held['encoder']!r}, not on {encoder.name!r}: load that encoder for it"
        )
    model = ClipModel(encoder, adapter, finetune, tower=tower, window=window)
    wrong = model.load_state_dict(weights, strict=False)
    if wrong.missing_keys or wrong.unexpected_keys:
        raise CheckpointUnusable(
            f"the model in {str(folder)!r} has {len(wrong.missing_keys)} missing and {len(wrong.unexpected_keys)} extra tensors, "
            f"the first {(wrong.missing_keys + wrong.unexpected_keys)[0]!r}: it is damaged, train it again"
        )
    return model.eval()


def numbered_blocks(tower: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer: what its lists of modules hold, the outermost lists only."""
    found: list[nn.Module] = []
    for part in tower.children():
        found += list(part) if isinstance(part, nn.ModuleList) else numbered_blocks(part)
    return found


def _headed(head: nn.Module, vectors: Tensor) -> Tensor:
    """Unit vectors in float32: in bfloat16 a cosine keeps three digits, and a scale of 100 makes the third one matter."""
    with torch.autocast(vectors.device.type, enabled=False):
        return F.normalize(head(vectors), dim=-1)


def _identity(dim: int, device: torch.device | str) -> nn.Linear:
    head = nn.Linear(dim, dim, bias=False, device=device)
    nn.init.eye_(head.weight)
    return head
