"""Learning all that a fused pass can tell: where, how salient, whether at all, which option, which answer, and in what words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox.vocabulary import COLOURS, SHAPES, SIZES, TEXTURES
from vlm.errors import InputError
from vlm.models.heads import standing
from vlm.models.interaction import SELDOM
from vlm.models.model import VideoTextModel
from vlm.train.batches import Batch
from vlm.train.curriculum import Glimpses, Lookups, Scenes
from vlm.train.examples import IGNORED
from vlm.train.losses.answers import choice_loss, decoder_loss
from vlm.train.losses.focal import focal_loss
from vlm.train.losses.ranking import ranked_items, saliency_ranking
from vlm.train.losses.spans import giou_loss
from vlm.train.ranks import weights_of_means

# Whether a thing is shown, five numbers, and its colour, shape, texture and size.
STATE_SIZES = (1, 5, len(COLOURS), len(SHAPES), len(TEXTURES), len(SIZES))
# A squared error of a hundredth matters, a cross-entropy of a hundredth does not.
NUMBERS_WEIGHT = 5.0
# Losses of a choice; the log also tells how many were right.
CHOSEN = ("match", "abstain", "closed", "option")
# What reads a pass.
HEADS = (*CHOSEN, "decoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """How much each loss weighs; 0 leaves it out."""

    foreground: float = 1.0
    spans: float = 1.0
    saliency: float = 0.5
    match: float = 1.0
    abstain: float = 1.0
    closed: float = 1.0
    option: float = 1.0
    decoder: float = 0.5
    states: float = 1.0
    acts: float = 1.0
    track_states: float = 1.0
    track_acts: float = 1.0
    mentioned: float = 1.0

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            if weight < 0:
                raise InputError(f"the weight of {name} must be at least 0, got {weight}")


class CrossingTraining(nn.Module):
    """A model's interaction and heads before a ``Batch``; gives the weighted loss and each part of it.

    Where more is known of the things in the videos, it must be told too, by maps that are of no use later: by each track how its thing is
    and what it does (``num_acts`` kinds), whatever is said about it; by the frames as they enter the stack how the thing is that the text
    is about, which is to find it by its name, and as they leave it what it does; and by the first slots which track does what the text
    mentions, and when. A span alone is little to learn all this from.

    With ``only`` some of HEADS named, these alone learn: in a third of the time, and from videos that the interaction has not learnt by
    heart, so that heads see how sure a find is when it is new.

    Raises:
        InputError: the model has no interaction.
    """

    def __init__(
        self, model: VideoTextModel, weights: LossConfig, num_acts: int = 0, num_tracks: int = 0, *, only: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.crossing, self.weights, self.only = model.cross(), weights, tuple(only)
        config = self.crossing.interaction.config
        if num_acts and config.acts not in (0, num_acts):
            raise InputError(f"interaction.acts must be the {num_acts} kinds of acts that are known, or 0, got {config.acts}")
        if only:
            num_acts = num_tracks = 0  # what is told apart teaches the interaction alone
            learnt = {*only, "summary"} if set(HEADS) <= set(only) else set(only)
            for name, part in self.crossing.named_children():
                part.requires_grad_(name in learnt)
        self.told = Told(config.width, num_acts) if num_acts else None
        is_tracked = num_acts and config.slots and num_tracks == config.tracks
        self.track_told = Told(config.track_width, 0 if config.acts else num_acts) if is_tracked else None

    def forward(self, batch: Batch | Glimpses | Scenes | Lookups) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and figures for the log."""
        if isinstance(batch, Lookups):
            return self._find(batch.batch)
        if isinstance(batch, Scenes):
            return self._look(batch)
        if isinstance(batch, Glimpses):
            return self._glimpse(batch)
        batch = batch.to(next(self.parameters()).device)
        crossing = self.crossing
        watched = crossing.watch(batch.frames, batch.times + batch.clock[:, None], batch.mask)
        fused = crossing.fuse(batch.words.tokens, batch.words.mask, watched.rows(batch.video))
        durations = batch.durations[batch.video]
        grounding = crossing.ground(fused, batch.times[batch.video], durations)
        evidence, summary = crossing.look(fused, grounding, durations)
        counted = batch.mask[batch.video] & batch.has_moments[:, None]
        inside = counted & (batch.foreground > 0)
        ranked = counted & (batch.levels > 0).any(dim=1, keepdim=True)
        told = batch.mask[batch.video] & batch.is_witnessed[:, None]
        tracked = batch.mask & batch.is_tracked[:, None]
        named = self._mentioned(batch)
        weights = weights_of_means(self._counts(batch, inside, ranked, told, tracked, named), batch.frames.device)
        losses: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        if "foreground" in weights:
            losses["foreground"] = focal_loss(grounding.foreground, batch.foreground, counted)
            losses["saliency"] = saliency_ranking(grounding.saliency, batch.levels, ranked)
        if self.told is not None and self.told.acts is not None and bool(told.any()):
            losses["states"] = _state_loss(self.told.states(fused.entering[told]), batch.states[told])
            losses["acts"] = focal_loss(self.told.acts(fused.leaving), batch.acts.float(), told[..., None].expand_as(batch.acts))
        if self.track_told is not None and bool(tracked.any()):
            losses |= self._of_tracks(self.track_told, watched.tracks, batch.track_states, batch.track_acts, tracked)
        if "mentioned" in weights:
            losses["mentioned"] = _mention_loss(fused.found, batch.mentioned, named)
        if "spans" in weights and bool(inside.any()):
            losses["spans"] = _span_loss(grounding.bounds(durations), grounding.offsets, grounding.centres, batch.spans, inside)
        for name, head, truth in (("match", crossing.match, batch.is_true), ("abstain", crossing.abstain, batch.is_answerable)):
            known = truth != IGNORED
            if bool(known.any()):
                logits, right = head(summary[known]), truth[known].float()
                losses[name] = F.binary_cross_entropy_with_logits(logits, right)
                figures[f"{name} right"] = ((logits > 0) == (right > 0)).float().mean()
        if crossing.closed is not None and bool((asked := batch.closed != IGNORED).any()):
            logits = crossing.closed(summary[asked])
            # What is frequent is added before the loss, and so left out of what is learnt (Menon et al. 2021, arXiv 2007.07314).
            losses["closed"] = F.cross_entropy(logits + batch.prior[asked], batch.closed[asked])
            figures["closed right"] = (logits.argmax(dim=-1) == batch.closed[asked]).float().mean()
        if bool((asked := batch.group >= 0).any()):
            behind, alone = asked & ~batch.is_alone, asked & batch.is_alone
            scores = crossing.option(summary[behind], standing(evidence.rows(alone), batch.group[alone]))
            logits, right, real = _choices(scores, batch.group[behind], batch.is_right[behind])
            losses["option"] = choice_loss(logits, right, real)
            figures["option right"] = (logits.masked_fill(~real, -torch.inf).argmax(dim=-1) == right).float().mean()
        if crossing.decoder is not None and bool((asked := batch.said_mask.any(dim=1)).any()):
            some = fused.rows(asked)
            said, said_mask, withheld = (part[asked] for part in (batch.said, batch.said_mask, batch.withheld))
            logits = crossing.decoder(some, evidence.rows(asked), summary[asked], said, said_mask, withheld)
            losses["decoder"] = decoder_loss(logits, said, said_mask)
        # What another rank learns and this one does not is a zero here, so that the mean over ranks is that of the whole batch.
        zero = 0.0 * summary.sum()
        losses = {name: weight * losses.get(name, zero) for name, weight in weights.items()}
        figures = {f"{name} right": weights[name] * figures.get(f"{name} right", zero) for name in CHOSEN if name in weights}
        total = zero + sum(getattr(self.weights, name) * loss for name, loss in losses.items())
        return total, {name: value.detach() for name, value in (losses | figures).items()}

    def _mentioned(self, batch: Batch) -> Tensor:
        """Which places (b, t, MENTIONS, s) of what was found are told; none where slots are fewer, or tracks are not told."""
        known = batch.mask[batch.video][..., None, None] & ~batch.mentioned.isnan()
        enough = self.track_told is not None and self.crossing.interaction.config.slots >= batch.mentioned.shape[2]
        return known if enough else torch.zeros_like(known)

    def _of_tracks(self, told: Told, tracks: Tensor, states: Tensor, acts: Tensor, tracked: Tensor) -> dict[str, Tensor]:
        """What tracks (v, t, s, w) must tell of what is known of them, in the rows ``tracked`` (v, t)."""
        known = tracked[..., None, None].expand_as(acts)
        tell = told.acts or self.crossing.interaction.acts
        assert tell is not None, "one of the two tells acts"
        return {
            "track_states": _state_loss(*_rows(told.states(tracks[tracked]), states[tracked])),
            "track_acts": focal_loss(tell(tracks), acts.float(), known),
        }

    def _look(self, batch: Scenes) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of tracks alone."""
        assert self.track_told is not None, "only where tracks are known"
        batch = batch.to(next(self.parameters()).device)
        watched = self.crossing.watch(batch.frames, batch.times, batch.mask)
        losses = self._of_tracks(self.track_told, watched.tracks, batch.track_states, batch.track_acts, batch.mask)
        counts = {"track_states": int(batch.mask.sum()), "track_acts": int(batch.track_acts.sum())}
        weights = weights_of_means(counts, batch.frames.device)
        losses = {name: weight * losses[name] for name, weight in weights.items()}
        total = torch.stack([getattr(self.weights, name) * loss for name, loss in losses.items()]).sum()
        return total, {f"seen {name}": loss.detach() for name, loss in losses.items()}

    def _find(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of what was found and of the tracks it was found among."""
        assert self.track_told is not None, "only where tracks are known"
        batch = batch.to(next(self.parameters()).device)
        watched = self.crossing.watch(batch.frames, batch.times + batch.clock[:, None], batch.mask)
        _, _, found = self.crossing.interaction.enter(batch.words.tokens, batch.words.mask, watched.rows(batch.video))
        tracked, named = batch.mask & batch.is_tracked[:, None], self._mentioned(batch)
        losses = {"mentioned": _mention_loss(found, batch.mentioned, named)}
        if bool(tracked.any()):
            losses |= self._of_tracks(self.track_told, watched.tracks, batch.track_states, batch.track_acts, tracked)
        counts = {
            "track_states": int(tracked.sum()),
            "track_acts": int(batch.track_acts[tracked].sum()),
            "mentioned": int((named & (batch.mentioned > 0)).sum()),
        }
        zero = 0.0 * found.sum()
        losses = {name: weight * losses.get(name, zero) for name, weight in weights_of_means(counts, batch.frames.device).items()}
        total = zero + sum(getattr(self.weights, name) * loss for name, loss in losses.items())
        return total, {f"found {name}": loss.detach() for name, loss in losses.items()}

    def _glimpse(self, batch: Glimpses) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the states alone, and itself: single frames are not sent through the stack."""
        assert self.told is not None, "only where things are witnessed"
        batch = batch.to(next(self.parameters()).device)
        watched = self.crossing.watch(batch.frames[:, None], batch.times[:, None])
        _, entering, _ = self.crossing.interaction.enter(batch.words.tokens, batch.words.mask, watched)
        loss = _state_loss(self.told.states(entering[:, 0]), batch.states)
        total, figures = self.weights.states * loss, {"glimpsed": loss.detach()}
        if self.track_told is not None:
            loss = _state_loss(*_rows(self.track_told.states(watched.tracks[:, 0]), batch.track_states))
            total, figures = total + self.weights.track_states * loss, figures | {"glimpsed tracks": loss.detach()}
        return total, figures

    def _counts(self, batch: Batch, inside: Tensor, ranked: Tensor, told: Tensor, tracked: Tensor, named: Tensor) -> dict[str, int]:
        """Over how many rows, items or choices the mean of each loss is; ``inside``, ``ranked``, ``told`` and ``tracked`` are rows,
        ``named`` places of what was found."""
        asked = batch.group[batch.group >= 0]
        heads = {
            "match": int((batch.is_true != IGNORED).sum()),
            "abstain": int((batch.is_answerable != IGNORED).sum()),
            "closed": 0 if self.crossing.closed is None else int((batch.closed != IGNORED).sum()),
            "option": len(torch.unique(asked)),
            "decoder": 0 if self.crossing.decoder is None else int(batch.said_mask.any(dim=1).sum()),
        }
        if self.only:
            return {name: count for name, count in heads.items() if name in self.only}
        return heads | {
            "foreground": int(inside.sum()),
            "spans": int(inside.sum()),
            "saliency": int(ranked_items(batch.levels, ranked).sum()),
            "states": int(told.sum()),
            "acts": int(batch.acts.sum()),
            "mentioned": int((named & (batch.mentioned > 0)).sum()),
            "track_states": int(tracked.sum()) if self.track_told is not None else 0,
            "track_acts": int(batch.track_acts[tracked].sum()) if self.track_told is not None else 0,
        }


class Told(nn.Module):
    """Maps that tell how a thing is and what it does: of rows (..., width). No acts: another tells them."""

    def __init__(self, width: int, num_acts: int) -> None:
        super().__init__()
        self.states = nn.Linear(width, sum(STATE_SIZES))
        self.acts = nn.Linear(width, num_acts) if num_acts else None
        if self.acts is not None:
            nn.init.constant_(self.acts.bias, SELDOM)


def _rows(*tensors: Tensor) -> list[Tensor]:
    return [tensor.flatten(0, -2) for tensor in tensors]


def _mention_loss(found: Tensor, mentioned: Tensor, named: Tensor) -> Tensor:
    """Of what the slots found (b, t, slots, s), the first of which should find what is mentioned (b, t, MENTIONS, s), where it is known."""
    return focal_loss(torch.logit(found[:, :, : mentioned.shape[2]].float(), eps=1e-6), mentioned.nan_to_num(), named)


def _span_loss(bounds: Tensor, offsets: Tensor, centres: Tensor, spans: Tensor, inside: Tensor) -> Tensor:
    """The mean over rows inside of ``1 - gIoU`` and of how far the logarithms of both offsets are off (smooth L1)."""
    true = spans[inside].to(bounds)
    wanted = torch.stack([centres[inside] - true[:, 0], true[:, 1] - centres[inside]], dim=-1).clamp(min=0.05).to(offsets)
    return giou_loss(bounds[inside], true).mean() + F.smooth_l1_loss(offsets[inside].log(), wanted.log(), beta=0.2)


def _state_loss(said: Tensor, states: Tensor) -> Tensor:
    """Of rows (n, sum(STATE_SIZES)) and what is known of them (n, NUM_STATES): whether the thing is shown, and where it is, the squared
    errors of its five numbers and the cross-entropies of its four names; the mean over all rows."""
    shown, numbers, *names = torch.split(said, list(STATE_SIZES), dim=-1)
    is_shown = states[:, 0] > 0.5
    total = F.binary_cross_entropy_with_logits(shown[:, 0], states[:, 0], reduction="sum")
    total = total + NUMBERS_WEIGHT * F.mse_loss(numbers[is_shown], states[is_shown, 1:6], reduction="sum") / 5
    for place, name in enumerate(names):
        total = total + F.cross_entropy(name[is_shown], states[is_shown, 6 + place].long(), reduction="sum")
    return total / len(states)


def _choices(logits: Tensor, group: Tensor, is_right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (g, k) of each choice's options, its right one (g,), and which options there are (g, k); options stand one after the other."""
    _, number, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    place = torch.arange(len(group), device=group.device) - (sizes.cumsum(dim=0) - sizes)[number]
    shape = (len(sizes), int(sizes.max()))
    table = logits.new_zeros(shape).index_put((number, place), logits)
    real = torch.zeros(shape, dtype=torch.bool, device=group.device)
    real[number, place] = True
    right = torch.zeros(len(sizes), dtype=torch.int64, device=group.device)
    right[number[is_right]] = place[is_right]
    return table, right, real


class MixedTraining(nn.Module):
    """Several trainings in one module; a batch is ``(name, batch)`` and goes to the training of that name."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, named: tuple[str, object]) -> tuple[Tensor, dict[str, Tensor]]:
        """As the part gives it; figures carry its name."""
        name, batch = named
        loss, figures = self.parts[name](batch)
        return loss, {f"{name} {key}": value for key, value in figures.items()} | {f"{name} loss": loss.detach()}
