"""What is read off one fused pass over a text and a video: whether they match, where, how salient each moment is, and the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.models.adapter import masked_mean
from vlm.models.interaction import COUNT_LEVELS, COUNTED, Fused
from vlm.types import Span

# Offsets are learnt as logarithms of seconds about this length.
TYPICAL_SECONDS = 3.0
# A hundredth of a second to three hours.
LEAST_LOG, MOST_LOG = math.log(0.01 / TYPICAL_SECONDS), math.log(10_800 / TYPICAL_SECONDS)
# Moments of a pass: how many at most, and by what IoU two are one. One that follows may begin a little early.
MOST_MOMENTS, DIFFERENT, SLACK_SECONDS = 16, 0.2, 0.5
FOLLOWING_SHARE, LATE_POWER, PRECEDENCE_POWER = 0.5, 4, 8
LOOKS = 3
COUNT_SLOPE = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Grounding:
    """Where a text is true of a video, a value a frame.

    Shapes:
        foreground: (b, t) logits that the frame lies inside. saliency: (b, t) scores, higher is more relevant, comparable within a video.
        offsets: (b, t, 2) seconds from the centre of the frame's stretch back to the start and on to the end, above 0.
        centres: (b, t) seconds. mask: (b, t) bool.
    """

    foreground: Tensor
    offsets: Tensor
    saliency: Tensor
    centres: Tensor
    mask: Tensor

    def bounds(self, durations: Tensor) -> Tensor:
        """Start and end (b, t, 2) in seconds that each frame proposes, within [0, duration (b,)]."""
        sign = self.offsets.new_tensor([-1.0, 1.0])
        return (self.centres[..., None] + sign * self.offsets).clamp(min=0.0).minimum(durations[:, None, None].to(self.offsets))


class GroundingHead(nn.Module):
    """Three-layer convolutions of kernel 3 on the fused frames, one for each output (UniVTG, arXiv 2307.16715), half as wide inside: they
    would weigh as much as the mixers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.foreground, self.offsets, self.saliency = (_ConvHead(width, outputs) for outputs in (1, 2, 1))

    def forward(self, fused: Fused, times: Tensor, durations: Tensor) -> Grounding:
        """What each frame says.

        Args:
            times: (b, t) seconds of the frames; each stands until the next one, the last until its video's end.
            durations: (b,) seconds.
        """
        mask = fused.video_mask
        front, back = _to_front(mask)
        x, real = fused.video.gather(1, front[..., None].expand_as(fused.video)), mask.gather(1, front)
        outputs = [head(x, real) for head in (self.foreground, self.offsets, self.saliency)]
        foreground, offsets, saliency = (out.gather(1, back[..., None].expand_as(out)).float() for out in outputs)
        seconds = TYPICAL_SECONDS * offsets.clamp(LEAST_LOG, MOST_LOG).exp()
        return Grounding(foreground[..., 0], seconds, saliency[..., 0], stretch_centres(times, durations, mask), mask)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The moments that a pass found, likeliest first, and the rows of three looks at them.

    Shapes:
        bounds: (b, k, 2) seconds, probability: (b, k), 0 where there are no more moments.
        shares: (b, LOOKS, t), weights that sum to 1 or are all 0: of the rows of the likeliest moment; of the same rows, nearly all at its
            end, where what it changes has changed; and of the rows of what follows it.
        things: (b, LOOKS, tracks, size), what each track holds in each look (Interaction.things); no tracks before that is known.
    """

    bounds: Tensor
    probability: Tensor
    shares: Tensor
    things: Tensor

    def rows(self, chosen: Tensor) -> Evidence:
        """Some of the items: a mask (b,) or their numbers."""
        return Evidence(*(getattr(self, field.name)[chosen] for field in fields(self)))


def evidence_of(grounding: Grounding, durations: Tensor) -> Evidence:
    """The moments of each item, none of which overlaps a likelier one by more than DIFFERENT, and the looks at them.

    What follows the likeliest moment is the first of those after its end that are at least half as likely as the likeliest of these: a
    question about what comes next raises all that might be it, and time tells which is.
    """
    bounds, probability, places = _likeliest(grounding, durations, most=MOST_MOMENTS, overlap=DIFFERENT)
    later = probability * (bounds[..., 0] >= bounds[:, :1, 1] - SLACK_SECONDS)
    later[:, 0] = 0  # it does not follow itself, however short it is
    might = (later > 0) & (later >= FOLLOWING_SHARE * later.amax(dim=1, keepdim=True))
    following = bounds[..., 0].masked_fill(~might, torch.inf).argmin(dim=1, keepdim=True)
    inside = grounding.foreground.sigmoid().masked_fill(~grounding.mask, 0.0)
    best = _rows_of(bounds[:, 0], places[:, 0], inside, grounding)
    span = bounds[:, 0]
    passed = ((grounding.centres - span[:, :1]) / (span[:, 1:] - span[:, :1]).clamp(min=0.1)).clamp(0.0, 1.0)
    late = best * (passed + 0.01).pow(LATE_POWER)
    after = _rows_of(bounds.gather(1, following[..., None].expand(-1, -1, 2))[:, 0], places.gather(1, following)[:, 0], inside, grounding)
    shares = torch.stack([best, late, after * might.any(dim=1, keepdim=True)], dim=1)
    shares = shares / shares.sum(dim=2, keepdim=True).clamp(min=1e-12)
    return Evidence(bounds, probability, shares.to(grounding.foreground), shares.new_zeros(len(shares), LOOKS, 0, 0))


def _rows_of(span: Tensor, place: Tensor, inside: Tensor, grounding: Grounding) -> Tensor:
    """How much of each row (b, t) belongs to a moment (b, 2): the row that proposed it does, however short it is."""
    held = (grounding.centres >= span[:, :1]) & (grounding.centres < span[:, 1:])
    proposed = F.one_hot(place, inside.shape[1]).to(inside)
    return torch.maximum(inside * held, proposed * inside.clamp(min=1e-6)) * grounding.mask


class Summary(nn.Module):
    """What is known of a text and a whole video: (b, InteractionConfig.summary_size).

    The mean word, the mean frame, the frame of the likeliest moment (a short event in a long video is a hundredth of the mean), and
    numbers: how likely each of the COUNTED likeliest moments is; of what each slot looked for, how sure the surest find is, over all tracks
    and in each (how many things), how far each track is it in the likeliest moment and at its end (which thing it was, and became); of each
    two slots, how far what the one looks for is found before what the other does; and how many moments there are.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3 * width)

    def forward(self, fused: Fused, evidence: Evidence) -> Tensor:
        """The summary of each item."""
        mask, shares = fused.video_mask, evidence.shares.to(fused.video)
        shown = torch.einsum("bt,btw->bw", shares[:, 0], fused.video)
        means = [masked_mean(x, real, normalise=False) for x, real in ((fused.text, fused.text_mask), (fused.video, mask))]
        numbers = [evidence.probability[:, :COUNTED].to(fused.video)]
        if fused.found.shape[2]:
            front, _ = _to_front(mask)
            found = fused.found.gather(1, front[..., None, None].expand_as(fused.found))
            looked = torch.einsum("blt,btks->blks", shares[:, :2], fused.found)
            surest = found.amax(dim=1)  # (b, slots, tracks)
            numbers += [surest.amax(dim=2), surest.flatten(1), looked.flatten(1), precedence(found.amax(dim=3)).flatten(1)]
        numbers.append(counts(evidence.probability).to(fused.video))
        return torch.cat([self.norm(torch.cat([*means, shown], dim=-1)), *numbers], dim=-1)


def counts(probability: Tensor) -> Tensor:
    """How many moments are likelier than each of COUNT_LEVELS: (b, levels) of (b, k). A moment that is near a level counts in part."""
    levels = probability.new_tensor(COUNT_LEVELS)
    return ((probability[..., None] - levels) * COUNT_SLOPE).sigmoid().sum(dim=1)


def precedence(curves: Tensor) -> Tensor:
    """Of curves (b, t, n) in [0, 1], how probable it is that a row drawn by a high power of the one comes before a row drawn by that of
    the other: (b, n, n), the one in the second place; near 0 where either is. The power is for long videos, where many rows that are
    nearly nothing would outweigh the few that are something."""
    powers = curves.pow(PRECEDENCE_POWER)
    drawn = powers / (powers.sum(dim=1, keepdim=True) + 1e-4)
    after = drawn.sum(dim=1, keepdim=True) - drawn.cumsum(dim=1)
    return torch.einsum("btk,btl->bkl", drawn, after)


class LogitHead(nn.Module):
    """One logit (b,) of a summary: whether the video shows the text, whether a question can be answered, how good an option is."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.mlp = _mlp(size, width, 1)

    def forward(self, summary: Tensor) -> Tensor:
        """Logits (b,)."""
        logits: Tensor = self.mlp(summary)[:, 0].float()
        return logits


class OptionHead(nn.Module):
    """How good an option is: by the summary of the question with it, and by where and how surely the video shows the option by itself.
    The summary says what that is worth: what comes first is the option that is shown early, what comes last the one that is shown late."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.mlp = _mlp(size, width, 3)

    def forward(self, summary: Tensor, alone: Tensor) -> Tensor:
        """Logits (b,) of summaries (b, size) and of ``alone`` (b, 2): see ``standing``."""
        good, worth = self.mlp(summary).float().split([1, 2], dim=1)
        logits: Tensor = good[:, 0] + (worth * alone).sum(dim=1)
        return logits


def standing(alone: Evidence, group: Tensor) -> Tensor:
    """Of options read by themselves (n), those of one choice with the same number in ``group`` (n,): how many of the others' likeliest
    moments come later rather than earlier, from 1 for the first to -1 for the last, and how likely its own is: (n, 2)."""
    start, others = alone.bounds[:, 0, 0], (group[:, None] == group[None]).float()
    later = ((start[None] - start[:, None]).sign() * others).sum(dim=1) / (others.sum(dim=1) - 1).clamp(min=1)
    return torch.stack([later.float(), alone.probability[:, 0].float()], dim=1)


class ClosedAnswerHead(nn.Module):
    """Logits (b, answers) over a closed list of answers."""

    def __init__(self, size: int, width: int, answers: Sequence[str]) -> None:
        super().__init__()
        if len(set(answers)) != len(answers) or not answers:
            raise InputError(f"answers must be a list of different texts, got {len(answers)} of which {len(set(answers))} differ")
        self.answers = tuple(answers)
        self.mlp = _mlp(size, width, len(answers))

    def forward(self, summary: Tensor) -> Tensor:
        """Logits (b, answers)."""
        logits: Tensor = self.mlp(summary).float()
        return logits


class _ConvHead(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        sizes = (width, width // 2, width // 2, outputs)
        self.convs = nn.ModuleList([nn.Conv1d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(sizes)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, t, outputs) of (b, t, width) whose real rows come first; pads are zeroed before each layer, as beyond an item's end."""
        real = mask[:, None]
        x = x.transpose(1, 2)  # (b, width, t)
        for number, conv in enumerate(self.convs):
            x = conv(x.masked_fill(~real, 0.0))
            x = F.relu(x) if number < 2 else x
        return x.transpose(1, 2)


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))


def _to_front(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The places (b, t) that bring real rows to the front in order, and those that bring them back: a gap between two frames is no frame,
    and must not stand between them in a convolution."""
    front = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return front, front.argsort(dim=1)


def stretch_centres(times: Tensor, durations: Tensor, mask: Tensor) -> Tensor:
    """The middle (b, t) of the stretch that each frame stands for: until the next real frame, or the video's end; 0 at pads."""
    front, back = _to_front(mask)
    starts = times.gather(1, front)
    last = mask.sum(dim=1, keepdim=True) - 1
    place = torch.arange(times.shape[1], device=times.device)
    following = torch.cat([starts[:, 1:], durations[:, None].to(starts)], dim=1)
    ends = torch.where(place == last, durations[:, None].to(starts), following)
    centres = ((starts + ends.maximum(starts)) / 2).gather(1, back)
    return centres.masked_fill(~mask, 0.0)


def best_spans(grounding: Grounding, durations: Tensor, *, most: int = 10, overlap: float = 0.7) -> list[list[tuple[Span, float]]]:
    """For each item up to ``most`` spans with their probabilities, best first; of two that overlap by more than ``overlap`` (true IoU) the
    better stays (non-maximum suppression)."""
    bounds, probability, _ = _likeliest(grounding, durations, most=most, overlap=overlap)
    return [
        [(Span(start, end), score) for (start, end), score in zip(spans, scores, strict=True) if end > start]
        for spans, scores in zip(bounds.tolist(), probability.tolist(), strict=True)
    ]


def _likeliest(grounding: Grounding, durations: Tensor, *, most: int, overlap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression of all items at once: bounds (b, most, 2) in seconds, probabilities (b, most), and the rows (b, most) that
    proposed them; empty bounds and probability 0 where no proposal is left. Nothing is learnt by it of where a row proposes."""
    bounds = grounding.bounds(durations).detach().double()
    starts, ends = bounds.unbind(dim=-1)
    alive = grounding.mask & (ends > starts)
    scores = grounding.foreground.double().sigmoid()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(most):
        place = scores.masked_fill(~alive, -torch.inf).argmax(dim=1, keepdim=True)
        is_left = alive.gather(1, place)
        start, end = starts.gather(1, place), ends.gather(1, place)
        found.append((torch.cat([start, end], dim=1) * is_left, scores.gather(1, place) * is_left, place))
        inside = (ends.minimum(end) - starts.maximum(start)).clamp(min=0)
        union = (ends - starts) + (end - start) - inside
        alive = alive & (inside <= overlap * union) & is_left
        alive = alive.scatter(1, place, False)
    spans, probability, places = (torch.stack(part, dim=1) for part in zip(*found, strict=True))
    return spans, probability[..., 0], places[..., 0]
