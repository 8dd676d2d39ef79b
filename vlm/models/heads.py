"""What is read off one fused pass over a text and a video: whether they match, where, how salient each moment is, and the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.models.adapter import masked_mean
from vlm.models.interaction import Fused
from vlm.types import Span

# Offsets are learnt as logarithms of seconds about this length.
TYPICAL_SECONDS = 3.0
# A hundredth of a second to three hours.
LEAST_LOG, MOST_LOG = math.log(0.01 / TYPICAL_SECONDS), math.log(10_800 / TYPICAL_SECONDS)


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


class Summary(nn.Module):
    """What is known of a text and a whole video: (b, InteractionConfig.summary_size).

    The mean word, the mean frame, the frames where the text holds (by the foreground's softmax: a short event in a long video is a
    hundredth of the mean), and numbers: how sure the surest frame is and how often the foreground begins, which counts; of what each slot
    looked for, how sure the surest find is, over all tracks and in each (which thing it was, and how many things), and how often finds
    begin; and of each two slots, how far what the one looks for is found before what the other does.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3 * width)

    def forward(self, fused: Fused, grounding: Grounding) -> Tensor:
        """The summary of each item."""
        mask = fused.video_mask
        shares = grounding.foreground.masked_fill(~mask, -torch.inf).softmax(dim=1).to(fused.video)
        shown = (shares[..., None] * fused.video).sum(dim=1)
        means = [masked_mean(x, real, normalise=False) for x, real in ((fused.text, fused.text_mask), (fused.video, mask))]
        front, _ = _to_front(mask)
        held = grounding.foreground.sigmoid().masked_fill(~mask, 0.0).gather(1, front).to(fused.video)
        found = fused.found.gather(1, front[..., None, None].expand_as(fused.found))
        numbers = [held.amax(dim=1, keepdim=True), _begun(held[..., None])]
        if found.shape[2]:
            begun = _begun(found.transpose(2, 3)).sum(dim=1)
            surest = found.amax(dim=1)  # (b, slots, tracks)
            numbers += [surest.amax(dim=2), surest.flatten(1), begun, precedence(found.sum(dim=3)).flatten(1)]
        return torch.cat([self.norm(torch.cat([*means, shown], dim=-1)), *numbers], dim=-1)


def _begun(curves: Tensor) -> Tensor:
    """How often curves (b, t, ..., n) begin, by how much they rise: (b, ..., n)."""
    return F.relu(curves.diff(dim=1, prepend=torch.zeros_like(curves[:, :1]))).sum(dim=1)


def precedence(curves: Tensor) -> Tensor:
    """Of curves (b, t, n), at least 0, how probable it is that a row drawn by the squares of the one comes before a row drawn by those of
    the other: (b, n, n), the one in the second place; near 0 where either is."""
    squares = curves.square()
    drawn = squares / (squares.sum(dim=1, keepdim=True) + 1e-3)
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
    bounds, scores = grounding.bounds(durations).double().cpu(), grounding.foreground.sigmoid().double().cpu()
    found: list[list[tuple[Span, float]]] = []
    for item in range(len(bounds)):
        kept: list[tuple[Span, float]] = []
        rows = grounding.mask[item].cpu().nonzero()[:, 0]
        order = rows[scores[item, rows].argsort(descending=True, stable=True)]
        starts, ends = bounds[item, order].unbind(-1)
        order_scores, alive = scores[item, order], ends > starts
        while len(kept) < most and bool(alive.any()):
            row = int(alive.to(torch.uint8).argmax())
            start, end = float(starts[row]), float(ends[row])
            kept.append((Span(start, end), float(order_scores[row])))
            inside = (ends.clamp(max=end) - starts.clamp(min=start)).clamp(min=0)
            union = (ends - starts) + (end - start) - inside
            alive &= inside / union <= overlap
        found.append(kept)
    return found
