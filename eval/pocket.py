"""The figures of pocket's model card: ``python -m vlm.eval.pocket [--encoder pocket] [--json FILE]``.

Everything is measured on the test split, whose looks and triples of shape, colour and action training never showed; the bars are those of
the project's plan.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.still_facts import ATTRIBUTES
from vlm.data.toybox.stills import CLEAR, Stills
from vlm.data.toybox.vocabulary import COLOURS
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.eval.order import order_figures
from vlm.eval.pocket_tasks import caption_choices, event_clips, labelled_frames, order_pairs, pooled_video
from vlm.eval.probes import fit_ridge, r_squared
from vlm.eval.retrieval import ranks, retrieval_figures

SEEDS = (101, 102, 103)
PROBED = ("x", "y", "size", "sine", "cosine")
BARS = {"captions.recall_at_1": 0.80, **{f"probes.{name}": 0.80 for name in PROBED}}


def caption_figures(encoder: Encoder, seed: int, *, count: int) -> dict[str, Any]:
    """R@1 and R@5 of the right caption among 100, and how many choices each kind of change won, of those where it stood."""
    size = encoder.preprocessing.framing.height
    frames = labelled_frames(seed, count, split="test", size=size)
    choices = caption_choices(frames, seed, most=count)
    images = encoder.encode_frames(frames.pixels[[choice.frame for choice in choices]])
    found = np.zeros(len(choices), np.int64)
    kinds = (*ATTRIBUTES, "relation", "count", "backdrop", "")
    lost, stood = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for number, choice in enumerate(choices):
        similarity = encoder.encode_text(list(choice.texts)) @ images[number]
        found[number] = ranks(similarity[None], np.zeros(1, np.int64))[0]
        for kind in set(choice.changed[1:]):
            rivals = [place for place, changed in enumerate(choice.changed) if place and changed == kind]
            stood[kind] += 1
            lost[kind] += int(similarity[rivals].max() >= similarity[0])
    return {
        "recall_at_1": float((found == 1).mean()),
        "recall_at_5": float((found <= 5).mean()),
        "choices": len(choices),
        "beaten_by": {kind or "another frame's caption": lost[kind] / stood[kind] for kind in kinds if stood[kind]},
    }


def probe_figures(encoder: Encoder, seed: int, *, worlds: int) -> dict[str, Any]:
    """R2 on test frames of ridge probes that were fitted on frames of the train split: one probe a colour and number, over clear things.

    The numbers pool all colours: residuals and spread are summed over colours, the spread being that around each colour's own mean;
    ``worst`` is the colour that is read worst.
    """
    size = encoder.preprocessing.framing.height
    parts = [labelled_frames(seed, n, split=split, size=size) for n, split in ((2 * worlds, "train"), (worlds, "test"))]
    (fit_vectors, fit_truth), (vectors, truth) = [(encoder.encode_frames(part.pixels), part.truth) for part in parts]
    by_colour = np.zeros((len(COLOURS), len(PROBED)))
    left, spread = np.zeros(len(PROBED)), np.zeros(len(PROBED))
    for colour in range(len(COLOURS)):
        fit_rows, rows = fit_truth.clarity[:, colour] == CLEAR, truth.clarity[:, colour] == CLEAR
        predicted = fit_ridge(fit_vectors[fit_rows], numbers(fit_truth, colour)[fit_rows])(vectors[rows])
        targets = numbers(truth, colour)[rows]
        by_colour[colour] = r_squared(predicted, targets)
        left += ((predicted - targets) ** 2).sum(axis=0)
        spread += ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    pooled = 1 - left / spread
    return {name: float(pooled[n]) for n, name in enumerate(PROBED)} | {
        "worst": {name: [COLOURS[int(by_colour[:, n].argmin())], float(by_colour[:, n].min())] for n, name in enumerate(PROBED)},
        "fit_frames": len(fit_vectors),
        "test_frames": len(vectors),
    }


def numbers(truth: Stills, colour: int) -> NDArray[np.float64]:
    """What is probed of the things of one colour: (n, 5) as PROBED names them."""
    angle = truth.angle[:, colour].astype(np.float64)
    return np.stack([truth.x[:, colour], truth.y[:, colour], truth.radius[:, colour], np.sin(angle), np.cos(angle)], axis=1)


def clip_figures(encoder: Encoder, seed: int, *, count: int) -> dict[str, Any]:
    """Text-to-video figures among ``count`` clips of one event, by mean pooling."""
    size = encoder.preprocessing.framing.height
    clips = list(event_clips(seed, count))
    videos = np.stack([pooled_video(clip.world, encoder.encode_frames, size=size) for clip in clips])
    return asdict(retrieval_figures(encoder.encode_text([clip.text for clip in clips]) @ videos.T))


def twin_figures(encoder: Encoder, seed: int, *, count: int) -> dict[str, Any]:
    """How often a video of two events is nearer to the text of its own order than to that of the other; a tie is half."""
    size = encoder.preprocessing.framing.height
    clips = [clip for pair in order_pairs(seed, count) for clip in pair]
    videos = np.stack([pooled_video(clip.world, encoder.encode_frames, size=size) for clip in clips])
    found = order_figures(encoder.encode_text([clip.text for clip in clips]) @ videos.T)
    return {"accuracy": found.accuracy, "videos": found.num_videos}


def pocket_figures(
    encoder: Encoder, *, seeds: tuple[int, ...] = SEEDS, choices: int = 500, clips: int = 500, pairs: int = 250
) -> dict[str, Any]:
    """All figures: captions and probes for each seed, clips and order for the first."""
    return {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "seeds": list(seeds),
        "captions": [caption_figures(encoder, seed, count=choices) for seed in seeds],
        "probes": [probe_figures(encoder, seed, worlds=choices) for seed in seeds],
        "clips": clip_figures(encoder, seeds[0], count=clips),
        "order": twin_figures(encoder, seeds[0], count=pairs),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table, bars beside them: mean, and lowest to highest over the seeds."""
    captions, probes, clips = figures["captions"], figures["probes"], figures["clips"]
    rows = [
        ("caption R@1 among 100, of which 60 differ in one attribute", *_over([part["recall_at_1"] for part in captions]), ">= 0.80"),
        ("caption R@5 of the same", *_over([part["recall_at_5"] for part in captions]), ""),
        *((f"linear probe of {name}, R2", *_over([part[name] for part in probes]), ">= 0.80") for name in PROBED),
        (f"text to video R@1 among {clips['num_candidates']} clips of one event", f"{clips['recall_at_1']:.3f}", "", ""),
        ("the same, R@5", f"{clips['recall_at_5']:.3f}", "", ""),
        (f"order of two events, {figures['order']['videos']} videos", f"{figures['order']['accuracy']:.3f}", "", "about 0.50"),
    ]
    kinds = captions[0]["beaten_by"]
    lines = ["| held-out looks, test split | mean | lowest to highest | bar |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "| the right caption is beaten by one with another | share of frames |", "|---|---|"]
    lines += [f"| {kind} | {np.mean([part['beaten_by'].get(kind, np.nan) for part in captions]):.3f} |" for kind in kinds]
    return "\n".join(lines)


def _over(values: list[float]) -> tuple[str, str]:
    return f"{np.mean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"


def main(words: list[str] | None = None) -> int:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m vlm.eval.pocket", description="Measure an encoder on Toybox's held-out looks.")
    parser.add_argument("--encoder", default="pocket", help="a spec of vlm models (default: pocket)")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here too")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--choices", type=int, default=500, help="worlds a seed for captions and probes")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=250)
    given = parser.parse_args(words)
    figures = pocket_figures(
        load_encoder(given.encoder), seeds=tuple(given.seeds), choices=given.choices, clips=given.clips, pairs=given.pairs
    )
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.stdout.write(table(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
