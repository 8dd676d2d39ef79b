"""What an ActionMamba finds in one video: actions with their stretches, as anyone can use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vlm.errors import InputError
from vlm.models.suite.localization import ActionMamba, Proposals
from vlm.models.suite.soft_nms import soft_nms
from vlm.types import Features, Span

# Candidates below this are not looked at; ActionFormer's numbers.
LEAST_SCORE = 1e-3
SIGMA = 0.5
# Candidates of one video before suppression, and for each row of a longer one.
MOST_CANDIDATES, CANDIDATES_A_ROW = 2000, 4
SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class FoundAction:
    """An action that was found: its name, the stretch in seconds, and how sure, in (0, 1]."""

    label: str
    span: Span
    score: float


@torch.inference_mode()
def find_actions(model: ActionMamba, features: Features, *, most: int = 200, least_score: float = LEAST_SCORE) -> list[FoundAction]:
    """The actions of a video of any length, best first, each inside ``[0, features.end]``.

    Of one class, a stretch that overlaps a better one counts less (``soft_nms``); classes do not touch each other.

    Args:
        features: of the model's encoder, at its frames a second. most: how many actions. least_score: what scores lower is left out.

    Raises:
        InputError: no rows, rows of another width, or rows that are not finite.
    """
    if not len(features.times):
        raise InputError("a video needs at least one row, got none: encode it again")
    device = model.scales.device
    frames = torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32))[None].to(device)
    proposals = model.eval()(frames)
    lengths, durations = torch.tensor([len(features.times)]), torch.tensor([features.end], dtype=torch.float64)
    points = model.points(lengths, torch.from_numpy(features.times), durations)
    bounds = Proposals(proposals.logits.cpu(), proposals.offsets.cpu()).bounds(points).numpy().clip(0.0, features.end)
    scores = proposals.logits.sigmoid().double().cpu().numpy()
    found = []
    for label, row in zip(model.config.classes, _candidates(scores, bounds, len(features.times), least_score), strict=True):
        number = row[0]
        kept, after = soft_nms(bounds[number], row[1], sigma=SIGMA, least=least_score, most=most)
        found += [
            FoundAction(label, Span(*map(float, bounds[number[place]])), float(score)) for place, score in zip(kept, after, strict=True)
        ]
    return sorted(found, key=lambda action: -action.score)[:most]


_Chosen = tuple[np.ndarray, np.ndarray]


def _candidates(scores: np.ndarray, bounds: np.ndarray, num_rows: int, least: float) -> list[_Chosen]:
    """For each class the points (k) that are looked at and their scores (k): the best of all classes together."""
    is_stretch = bounds[:, 1] - bounds[:, 0] > SHORTEST_SECONDS
    point, label = np.nonzero((scores >= least) & is_stretch[:, None])
    score = scores[point, label]
    best = np.sort(np.argsort(-score, kind="stable")[: max(MOST_CANDIDATES, CANDIDATES_A_ROW * num_rows)])
    point, label, score = point[best], label[best], score[best]
    return [(point[label == number], score[label == number]) for number in range(scores.shape[1])]
