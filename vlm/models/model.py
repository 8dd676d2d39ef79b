"""The assembled video-text model: everything trained that stands on a frozen encoder, and its folder on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlm.encoders.base import Encoder
from vlm.encoders.weights import read_json, read_tensors
from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.adapter import Adapted, AdapterConfig, TemporalAdapter, TextAdapter
from vlm.models.decoder import AnswerDecoder, DecoderConfig
from vlm.models.folder import CONFIG, WEIGHTS, find_folder, known_fields, load_exactly, write_folder
from vlm.models.heads import ClosedAnswerHead, Evidence, Grounding, GroundingHead, LogitHead, OptionHead, Summary, evidence_of
from vlm.models.interaction import Fused, Interaction, InteractionConfig, Watched
from vlm.ssm.stack import count_parameters

# Since 2 the lookup of an interaction looks through two layers, and summaries know which track found what; since 3 what answers reads the
# moments that were found, and options are looked for by themselves.
FORMAT = 3
_PARTS: dict[str, type[Any]] = {"adapter": AdapterConfig, "interaction": InteractionConfig, "decoder": DecoderConfig}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTextConfig:
    """A model and the encoder that it was made for.

    Attributes:
        encoder, fingerprint: of the encoder whose vectors come in; no other's can be used.
        adapter: of frames along time, and of texts.
        interaction: of words and frames; None is a model for retrieval alone, which neither grounds nor answers.
        answers: the closed list of answers; empty is none. decoder: of answers in words; None is none.
    """

    encoder: str
    fingerprint: str
    adapter: AdapterConfig
    interaction: InteractionConfig | None = None
    answers: tuple[str, ...] = ()
    decoder: DecoderConfig | None = None

    def __post_init__(self) -> None:
        dim = self.adapter.dim
        if self.interaction is None:
            if self.answers or self.decoder is not None:
                raise InputError("answers and decoder need an interaction, and there is none")
            return
        if (self.interaction.text_dim, self.interaction.video_dim) != (dim, dim):
            raise InputError(
                f"interaction.text_dim {self.interaction.text_dim} and video_dim {self.interaction.video_dim} must be adapter.dim {dim}"
            )
        if self.decoder is not None and self.decoder.width != self.interaction.width:
            raise InputError(f"decoder.width {self.decoder.width} must be interaction.width {self.interaction.width}")
        if self.decoder is not None and self.decoder.tracks:
            own, read = ((one.tracks, one.thing_size, one.slots, one.acts) for one in (self.interaction, self.decoder))
            if own != read:
                raise InputError(f"decoder.tracks, thing_size, slots and acts {read} must be those of the interaction, {own}")
        if self.decoder is not None and self.decoder.summary_size != self.interaction.summary_size:
            raise InputError(f"decoder.summary_size {self.decoder.summary_size} must be that of heads, {self.interaction.summary_size}")


class Crossing(nn.Module):
    """Words and frames in one pass, and the heads that read it."""

    def __init__(self, config: VideoTextConfig, interaction: InteractionConfig) -> None:
        super().__init__()
        width = interaction.width
        self.interaction = Interaction(interaction)
        self.grounding, self.summary = GroundingHead(width), Summary(width)
        size = interaction.summary_size
        self.match, self.abstain, self.option = LogitHead(size, width), LogitHead(size, width), OptionHead(size, width)
        self.closed = ClosedAnswerHead(size, width, config.answers) if config.answers else None
        self.decoder = AnswerDecoder(config.decoder) if config.decoder is not None else None

    def watch(self, frames: Tensor, times: Tensor, mask: Tensor | None = None) -> Watched:
        """What depends on the encoder's own frames (b, t, d) alone; see Interaction."""
        return self.interaction.watch(frames, times, mask)

    def fuse(self, tokens: Tensor, text_mask: Tensor, watched: Watched) -> Fused:
        """Words (b, q, d) and watched videos that know of each other; see Interaction."""
        fused: Fused = self.interaction(tokens, text_mask, watched)
        return fused

    def ground(self, fused: Fused, times: Tensor, durations: Tensor) -> Grounding:
        """Where the text is true; see GroundingHead."""
        found: Grounding = self.grounding(fused, times, durations)
        return found

    def look(self, fused: Fused, grounding: Grounding, durations: Tensor) -> tuple[Evidence, Tensor]:
        """What ``match``, ``abstain``, ``option``, ``closed`` and ``decoder`` read: the moments that were found, and what is known of text
        and video (b, size); see Evidence and Summary."""
        evidence = evidence_of(grounding, durations)
        evidence = replace(evidence, things=self.interaction.things(fused, evidence.shares.to(fused.video)))
        return evidence, self.summary(fused, evidence)


class VideoTextModel(nn.Module):
    """Frames and words of a frozen encoder to: one vector a video and a text, whether they match, where, how salient, and answers.

    Tensors in, tensors out: ``vlm.models.reader`` takes sentences and stored features. Each part has its own call, so that a caller pays
    for what it asks.
    """

    def __init__(self, config: VideoTextConfig) -> None:
        super().__init__()
        self.config = config
        self.adapter, self.text_adapter = TemporalAdapter(config.adapter), TextAdapter(config.adapter)
        self.crossing = None if config.interaction is None else Crossing(config, config.interaction)

    def encode_video(self, frames: Tensor, times: Tensor, mask: Tensor | None = None) -> Adapted:
        """Adapted frames (b, t, d) and unit vectors (b, d) of frames (b, t, d) with times (b, t) in seconds; see TemporalAdapter."""
        adapted: Adapted = self.adapter(frames, times, mask)
        return adapted

    def encode_text(self, pooled: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (b, d) of texts; see TextAdapter."""
        vectors: Tensor = self.text_adapter(pooled, tokens, mask)
        return vectors

    def cross(self) -> Crossing:
        """What reads words and frames together.

        Raises:
            InputError: the model is for retrieval alone.
        """
        if self.crossing is None:
            raise InputError(
                "this model is for retrieval alone: it has no interaction of words and frames, and neither grounds nor answers"
            )
        return self.crossing

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises EncoderMismatch, naming both, where the model was made for another encoder."""
        if encoder.fingerprint != self.config.fingerprint:
            same = " of other weights or preprocessing" if encoder.name == self.config.encoder else ""
            raise EncoderMismatch(
                f"this model was made for the encoder {self.config.encoder!r} ({self.config.fingerprint}) and cannot read the vectors of "
                f"{encoder.name!r}{same} ({encoder.fingerprint}): open that encoder, or train a model for this one (vlm train)"
            )

    def num_parameters(self) -> dict[str, int]:
        """How many numbers each part learns."""
        parts = dict(self.named_children())
        crossing = parts.pop("crossing", None)
        if crossing is not None:
            parts |= dict(crossing.named_children())
        return {name: count_parameters(part) for name, part in parts.items()}

    def save_pretrained(self, folder: Path | str, *, card: str = "", dtype: torch.dtype = torch.float32) -> Path:
        """Write config.json, model.safetensors and README.md; gives the folder.

        Weights are stored as ``dtype``; ``from_pretrained`` gives float32 of them.

        All is written beside it first: where the disk is full, what was there before stays as it was.

        Raises:
            InputError: the folder holds something that is no model. OSError: it cannot be written.
        """
        held = {"format": FORMAT, "model": asdict(self.config)}
        return write_folder(folder, self, held, card=card or _card(self), dtype=dtype)

    @classmethod
    def from_pretrained(cls, name: Path | str, *, offline: bool = False) -> VideoTextModel:
        """The model in a folder, or of a repository ``owner/name`` of the Hugging Face hub; float32, on the CPU, for use and not training.

        Raises:
            WeightsUnavailable: there is none, it is damaged, of a later format, or its tensors are not those of its config.
        """
        folder = find_folder(name, offline=offline)
        model = cls(read_config(folder))
        load_exactly(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
        return model.eval()

    def push_to_hub(self, repository: str, *, private: bool = True, card: str = "") -> None:
        """Upload the folder as ``repository`` (owner/name) of the Hugging Face hub, with the token that ``hf auth login`` stored."""
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model", card=card)
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=Path(folder) / "model")


def read_config(folder: Path) -> VideoTextConfig:
    """The config of the model in a folder; raises WeightsUnavailable as ``from_pretrained``."""
    path = folder / CONFIG
    held = read_json(path)
    given = held.get("model")
    if not isinstance(held.get("format"), int) or not isinstance(given, dict):
        raise WeightsUnavailable(f"{str(path)!r} is no config of a video-text model: it needs 'format' and 'model'")
    if held["format"] > FORMAT:
        raise WeightsUnavailable(f"{str(path)!r} has format {held['format']}, this vlm reads up to {FORMAT}: install a newer one")
    if held["format"] < FORMAT and given.get("interaction") is not None:
        raise WeightsUnavailable(f"{str(path)!r} has format {held['format']}, whose interaction had other parts: train the model again")
    try:
        parts = {name: _part(kind, given.get(name), name) for name, kind in _PARTS.items()}
        plain = {name: value for name, value in given.items() if name not in _PARTS}
        return VideoTextConfig(**known_fields(VideoTextConfig, plain, "model"), **parts)
    except (InputError, TypeError) as error:
        raise WeightsUnavailable(f"{str(path)!r} is damaged: {error}") from error


def _part(kind: type[Any], held: Any, name: str) -> Any:
    return None if held is None else kind(**known_fields(kind, held, name))


def _card(model: VideoTextModel) -> str:
    """What a model card says where nothing was measured yet."""
    config = model.config
    mixers = [(config.adapter.mixer, "along time")]
    if config.interaction is not None:
        mixers.append((config.interaction.mixer, "between words and frames"))
    parts = "\n".join(f"| {name} | {count:,} |" for name, count in model.num_parameters().items())
    return (
        "---\nlibrary_name: vlm-retrieval\npipeline_tag: video-text-to-text\n---\n\n"
        f"# A video-text model for `{config.encoder}`\n\n"
        f"It reads stored frame vectors of the encoder `{config.encoder}` ({config.fingerprint}) and of no other. Mixers: "
        f"{', '.join(f'`{mixer}` {where}' for mixer, where in mixers)}.\n\n"
        f"| part | parameters |\n|---|---|\n{parts}\n\nNothing has been measured with these weights.\n"
    )


def build(encoder: Encoder, *, config: VideoTextConfig) -> VideoTextModel:
    """A new model for ``encoder``.

    Raises:
        EncoderMismatch: the config names another. InputError: its width is not the encoder's.
    """
    model = VideoTextModel(config)
    model.check_encoder(encoder)
    if encoder.dim != config.adapter.dim:
        raise InputError(f"adapter.dim must be the encoder's width {encoder.dim}, got {config.adapter.dim}")
    return model


def joined(adapters: VideoTextModel, crossing: VideoTextModel) -> VideoTextModel:
    """The adapters of one model beside the interaction and the heads of another: they share no weights, and may be trained apart.

    Raises:
        EncoderMismatch: the models were made for different encoders. InputError: the second is for retrieval alone.
    """
    one, other = adapters.config, crossing.config
    if one.fingerprint != other.fingerprint:
        raise EncoderMismatch(
            f"adapters made for the encoder {one.encoder!r} ({one.fingerprint}) cannot stand beside an interaction made for "
            f"{other.encoder!r} ({other.fingerprint})"
        )
    made = VideoTextModel(replace(other, adapter=one.adapter))
    made.cross().load_state_dict(crossing.cross().state_dict())
    made.adapter.load_state_dict(adapters.adapter.state_dict())
    made.text_adapter.load_state_dict(adapters.text_adapter.state_dict())
    return made.eval()


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Items (t, ...) of several lengths as one batch (b, t, ...), zeros at pads, and its mask (b, t) bool.

    Raises:
        InputError: there are none.
    """
    if not rows:
        raise InputError("a batch needs at least one item, got none")
    batch = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=batch.device)
    return batch, torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]
