"""Frames of Toybox with their truth: rendered once into a memory-mapped cache, and batches that are pure functions of their number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.splits import is_held_out_look
from vlm.data.toybox.still_captions import Caption, captions_with_negatives, full_claim, true_claim
from vlm.data.toybox.still_facts import Claim, Mention, scene
from vlm.data.toybox.still_masks import possible
from vlm.data.toybox.stills import Stills, joined, quarter_turned
from vlm.data.toybox.vocabulary import COLOURS, SHAPES, TEXTURES, VERSION
from vlm.encoders.pocket_text import PocketTokenizer
from vlm.errors import InputError

PART = 500  # worlds a job of the cache
SPARE = 2  # negatives made for those that name a withheld look


@dataclass(frozen=True, slots=True, kw_only=True)
class StillsConfig:
    """Which frames, and what is said of them.

    Attributes:
        seed, split: of the worlds; num_worlds and frames_per_world of each.
        image_size: of the rendered frames in pixels.
        batch_size: frames a batch; negatives: hard negatives a caption.
        event_share: how many captions, of those that could, tell what is happening instead of what is seen.
        full_share: how many of the others say all that can be told of two things; the rest leave most of it out, as people do.
        turns, light: whether frames are turned by quarters (their truth too), and made brighter, darker, noisier, and poorer in colour
            detail, as video codecs make them.
    """

    seed: int = 1
    split: str = "train"
    num_worlds: int = 10_000
    frames_per_world: int = 6
    image_size: int = 64
    batch_size: int = 128
    negatives: int = 1
    event_share: float = 0.15
    full_share: float = 0.25
    turns: bool = True
    light: bool = True

    def __post_init__(self) -> None:
        for name in ("num_worlds", "frames_per_world", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_worlds * self.frames_per_world < self.batch_size:
            raise InputError(f"batch_size {self.batch_size} is more than num_worlds * frames_per_world")


@dataclass(frozen=True, slots=True)
class EventText:
    """What is happening in a frame, in words, and what the words say of things that can be seen."""

    frame: int
    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True, slots=True)
class FrameCache:
    """Rendered frames: pixels (n, h, w, 3) uint8, memory-mapped; their truth; and texts of the events going on. Pickled as the name of
    its folder: processes that make batches share the frames."""

    home: Path
    pixels: NDArray[np.uint8]
    stills: Stills
    events: dict[int, list[EventText]]

    def __reduce__(self) -> tuple[Callable[[Path], FrameCache], tuple[Path]]:
        return _open, (self.home,)


@dataclass(frozen=True, slots=True)
class StillsBatch:
    """Frames (n, h, w, 3) uint8, turned but not lit; their truth; and the seed of their light, None for their own."""

    frames: Tensor
    truth: Stills
    light_seed: int | None


@dataclass(frozen=True, slots=True)
class StillsTexts:
    """What is said of the frames of one batch.

    Shapes:
        rows: (n,) int64, the frames; truth: of them, turned.
        tokens: (n, q) int64, own captions; negative_tokens: (m, q).
        excluded: (n, n + m) bool, pairs that may be true by chance.
        claims: what the n + m texts say.
    """

    rows: NDArray[np.int64]
    truth: Stills
    tokens: Tensor
    negative_tokens: Tensor
    excluded: Tensor
    claims: tuple[Claim, ...]


def open_cache(config: StillsConfig, folder: Path, *, workers: int = 1) -> FrameCache:
    """The frames that ``config`` names, rendered into ``folder`` unless they are there; the same on every machine within a grey level."""
    picture = {name: getattr(config, name) for name in ("seed", "split", "num_worlds", "frames_per_world", "image_size")}
    key = hashlib.sha256(json.dumps([VERSION, picture], sort_keys=True).encode()).hexdigest()[:16]
    home = folder / f"frames-{key}"
    if not (home / "done").exists():
        _fill(config, home, workers)
    return _open(home)


def _open(home: Path) -> FrameCache:
    with np.load(home / "stills.npz") as held:
        stills = Stills(**{field.name: held[field.name] for field in fields(Stills)})
    events: dict[int, list[EventText]] = {}
    for line in (home / "events.jsonl").read_text("utf-8").splitlines():
        frame, text, mentions = json.loads(line)
        events.setdefault(frame, []).append(EventText(frame, text, tuple(Mention(**mention) for mention in mentions)))
    return FrameCache(home, np.load(home / "pixels.npy", mmap_mode="r"), stills, events)


def _fill(config: StillsConfig, home: Path, workers: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    shape = (config.num_worlds * config.frames_per_world, config.image_size, config.image_size, 3)
    pixels = np.lib.format.open_memmap(home / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    jobs = [(config, first, min(first + PART, config.num_worlds)) for first in range(0, config.num_worlds, PART)]
    truths, lines = [], []
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for (_, first, _), (frames, truth, events) in zip(jobs, pool.map(_part, jobs), strict=True):
            begin = first * config.frames_per_world
            pixels[begin : begin + len(frames)] = frames
            truths.append(truth)
            lines += [json.dumps([begin + event.frame, event.text, [asdict(mention) for mention in event.mentions]]) for event in events]
    pixels.flush()
    whole = joined(truths)
    np.savez(home / "stills.npz", **{field.name: getattr(whole, field.name) for field in fields(Stills)})
    (home / "events.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (home / "done").touch()


def _part(job: tuple[StillsConfig, int, int]) -> tuple[NDArray[np.uint8], Stills, list[EventText]]:
    """Frames, truth and events of worlds [first, last)."""
    config, first, last = job
    frames, truths, events = [], [], []
    for index in range(first, last):
        pixels, truth, texts = world_frames(config, index)
        frames.append(pixels)
        truths.append(truth)
        offset = (index - first) * config.frames_per_world
        events += [EventText(offset + event.frame, event.text, event.mentions) for event in texts]
    return np.concatenate(frames), joined(truths), events


def world_frames(config: StillsConfig, index: int) -> tuple[NDArray[np.uint8], Stills, list[EventText]]:
    """Frames (frames_per_world, h, w, 3) of world ``index`` at times of the dice, their truth, and the events going on at those times."""
    from vlm.data.toybox.language import event_caption
    from vlm.data.toybox.motion import states
    from vlm.data.toybox.plan import make_world
    from vlm.data.toybox.render import render
    from vlm.data.toybox.stills import stills

    dice = Dice(VERSION, "frames", config.seed, config.split, index)
    world = make_world(config.seed, index, split=config.split, seconds=dice.between(50, 300) / 10)
    ticks = sorted(dice.below(int(world.seconds * 10)) for _ in range(config.frames_per_world))
    times = np.array(ticks, np.float64) / 10
    texts = []
    for frame, tick in enumerate(ticks):
        for event in world.events:
            if round(event.span.start * 10) <= tick < round(event.span.end * 10):
                looks = [event.look] + ([event.target_look] if event.target_look is not None else [])
                mentions = tuple(
                    Mention(COLOURS.index(look.colour), SHAPES.index(look.shape), texture=TEXTURES.index(look.texture)) for look in looks
                )
                text = event_caption(event, dice, detail="full" if dice.chance(0.5) else "short")
                texts.append(EventText(frame, text, mentions))
    return render(world, times, size=config.image_size), stills(world, states(world, times)), texts


class StillsSource:
    """Batches of ``cache``: number i holds the same frames, captions and light whenever it is asked for. Each frame comes once an epoch."""

    def __init__(self, config: StillsConfig, cache: FrameCache, tokenizer: PocketTokenizer) -> None:
        self.config, self.cache, self._tokenizer = config, cache, tokenizer
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def rows(self, index: int) -> NDArray[np.int64]:
        """Frames of batch ``index``."""
        size = self.config.batch_size
        epoch, number = divmod(index, len(self.cache.stills) // size)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.config.seed, epoch]).permutation(len(self.cache.stills)))
        return self._order[1][number * size : (number + 1) * size]

    def describe_batch(self, index: int) -> str:
        """The frames of batch ``index``, for a message about it."""
        return f"batch {index} with frames {self.rows(index).tolist()}"

    def batch(self, index: int) -> StillsBatch:
        """The frames of batch ``index``, turned, with their truth."""
        rows, turns = self.rows(index), self._turns(index)
        frames = torch.from_numpy(_turned(self.cache.pixels[rows], turns))
        light_seed = Dice("light", self.config.seed, index).bits() >> 1 if self.config.light else None
        return StillsBatch(frames, quarter_turned(self.cache.stills[rows], turns), light_seed)

    def texts(self, index: int) -> StillsTexts:
        """What is said of the frames of batch ``index``."""
        rows, turns = self.rows(index), self._turns(index)
        truth = quarter_turned(self.cache.stills[rows], turns)
        dice = Dice("captions", self.config.seed, index)
        own, negatives, owners = [], [], []
        for row in range(len(rows)):
            first, *others = self._captions(truth, row, int(rows[row]), int(turns[row]), dice)
            own.append(first)
            negatives += others
            owners += [row] * len(others)
        claims = tuple(caption.claim for caption in own + negatives)
        excluded = possible(claims, truth).T  # (n, n + m)
        # What is false of its own frame by a relation alone is let pass above.
        excluded[owners, len(rows) + np.arange(len(negatives))] = False
        return StillsTexts(
            rows=rows,
            truth=truth,
            tokens=self._tokens(own),
            negative_tokens=self._tokens(negatives),
            excluded=torch.from_numpy(np.ascontiguousarray(excluded)),
            claims=claims,
        )

    def _turns(self, index: int) -> NDArray[np.int64]:
        dice = Dice("turns", self.config.seed, index)
        return np.array([dice.below(4) if self.config.turns else 0 for _ in range(self.config.batch_size)])

    def _captions(self, truth: Stills, row: int, frame: int, turns: int, dice: Dice) -> list[Caption]:
        events = self.cache.events.get(frame)
        if events and turns == 0 and dice.chance(self.config.event_share * (4 if self.config.turns else 1)):
            event = dice.choose(events)
            return [Caption(event.text, Claim(event.mentions))]
        shown = scene(truth, row)
        claim = full_claim(shown, dice) if len(shown.clear) > 1 and dice.chance(self.config.full_share) else true_claim(shown, dice)
        own, *others = captions_with_negatives(claim, shown, dice, negatives=self.config.negatives + SPARE)
        # A look that the split withholds is never true here: as a negative it would teach that no such thing exists.
        fair = [other for other in others if not any(map(_is_withheld, other.claim.mentions))]
        return [own, *fair[: self.config.negatives]]

    def _tokens(self, captions: Sequence[Caption]) -> Tensor:
        return self._tokenizer([caption.text for caption in captions])


def _is_withheld(mention: Mention) -> bool:
    shape, colour, texture = mention.shape, mention.colour, mention.texture
    if shape is None or colour is None or texture is None:
        return False
    return is_held_out_look(SHAPES[shape], COLOURS[colour], TEXTURES[texture])


def _turned(frames: NDArray[Any], turns: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Copies of the frames turned clockwise by quarters."""
    turned = np.array(frames)
    for turn in (1, 2, 3):
        turned[turns == turn] = np.rot90(turned[turns == turn], k=-turn, axes=(1, 2))
    return turned


def relit(frames: Tensor, seed: int) -> Tensor:
    """Frames (n, h, w, 3) uint8 under other light: gain 0.85 to 1.15 and offset a colour channel, noise of up to 5 grey levels, and for two
    in five the colour detail halved, as codecs with 4:2:0 sampling leave it. The same for a seed on one kind of device."""
    n, h, w, _ = frames.shape
    generator = torch.Generator(frames.device).manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=frames.device)

    x = frames.float()
    gain = 1 + 0.3 * (uniform(n, 1, 1, 1) - 0.5) + 0.06 * (uniform(n, 1, 1, 3) - 0.5)
    x = (x - 127.5) * gain + 127.5 + 20 * (uniform(n, 1, 1, 1) - 0.5)
    grey = x.mean(dim=-1, keepdim=True)
    coarse = torch.nn.functional.avg_pool2d((x - grey).permute(0, 3, 1, 2), 2)
    fine = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=False)
    x = torch.where(uniform(n, 1, 1, 1) < 0.4, grey + fine.permute(0, 2, 3, 1), x)
    x = x + torch.randn(x.shape, generator=generator, device=frames.device) * (5 * uniform(n, 1, 1, 1))
    return x.round_().clamp_(0, 255).to(torch.uint8)
