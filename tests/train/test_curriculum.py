"""Single frames first, then scenes without words, then windows and whole videos; a model learns from each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.test_retrieval import Encoder
from vlm.models.adapter import AdapterConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.train.batches import ExampleSource
from vlm.train.curriculum import Curriculum, Glimpses, GlimpseSource, LookupSource, Scenes, SceneSource
from vlm.train.examples import Example
from vlm.train.toybox import worlds_of
from vlm.train.toybox_examples import WorldWitness
from vlm.train.video_text import STATE_SIZES, CrossingTraining, LossConfig, _state_loss
from vlm.train.words import TextBank
from vlm.types import Features


def glimpses(batch_size: int = 64) -> GlimpseSource:
    """Frames whose vectors say which video and row they are of."""
    worlds = worlds_of(3, 5, split="train")
    times = [np.arange(0, world.seconds, 0.5) for world in worlds]
    features = [
        Features(np.stack([np.full(len(when), number), np.arange(len(when)), np.ones(len(when))], axis=1).astype(np.float32), when, 600.0)
        for number, when in enumerate(times)
    ]
    asked = [Example(video=video, text="a bb", things=(thing,)) for video, world in enumerate(worlds) for thing in range(len(world.things))]
    bank = TextBank(Encoder(), ["a bb"])  # type: ignore[arg-type]
    return GlimpseSource(asked, features, bank, WorldWitness(worlds, 2.0), batch_size)


def scenes(batch_size: int = 6) -> SceneSource:
    """Windows of the same videos."""
    held = glimpses()
    features = [replace(shown, end=shown.times[-1] + 0.5) for shown in held.features]  # type: ignore[attr-defined]
    return SceneSource(features, held.witness, batch_size, 8.0)


def test_a_glimpse_is_a_frame_of_its_video_and_what_is_known_of_the_thing_there() -> None:
    source = glimpses()
    batch = source.batch(0)
    drawn = [source.examples[number] for number in source._numbers(0)]
    assert batch.frames.shape == (64, 3)
    for row, example in enumerate(drawn):
        video, place = (int(number) for number in batch.frames[row, :2])
        assert video == example.video
        told, _ = source.witness.tell(video, example.things[0], source.features[video].times)
        np.testing.assert_array_equal(batch.states[row].numpy(), told[place])
        of_all, _ = source.witness.tell_all(video, source.features[video].times[place : place + 1])
        np.testing.assert_array_equal(batch.track_states[row].numpy(), of_all[0])
    assert float((batch.states[:, 0] > 0).float().mean()) > 0.6
    assert torch.equal(batch.frames, source.batch(0).frames)
    assert not torch.equal(batch.frames, source.batch(1).frames)


def test_glimpses_teach_what_frames_hold_and_leave_the_stack_alone() -> None:
    taught = training()
    loss, figures = taught(glimpses().batch(0))
    heads, parts = learnt(taught, loss)
    assert heads == {"crossing", "told.states", "track_told.states"}
    assert parts == {"from_text", "from_video", "kind", "time", "place", "tracks", "before"}
    assert float(figures["glimpsed"] + figures["glimpsed tracks"]) == pytest.approx(float(loss.detach()))


def test_scenes_teach_tracks_alone() -> None:
    taught = training()
    loss, figures = taught(scenes().batch(0))
    assert learnt(taught, loss) == ({"crossing", "track_told.states", "track_told.acts"}, {"tracks"})
    assert float(figures["seen track_states"] + figures["seen track_acts"]) == pytest.approx(float(loss.detach()))


def lookups() -> LookupSource:
    """Windows of the same videos before two texts of each world, one of them about two events."""
    held = glimpses()
    features = [replace(shown, end=shown.times[-1] + 0.5) for shown in held.features]  # type: ignore[attr-defined]
    witness = held.witness
    assert isinstance(witness, WorldWitness)
    asked = []
    for video, world in enumerate(witness.worlds):
        mentions = tuple(((event.subject, event.span),) for event in world.events[:2])
        spans = tuple(event.span for event in world.events[:2])
        asked += [
            Example(video=video, text="a bb", spans=spans, mentions=mentions),
            Example(video=video, text="a", spans=spans[:1], mentions=mentions[:1]),
        ]
    bank = TextBank(Encoder(), ["a bb", "a"])  # type: ignore[arg-type]
    return LookupSource(ExampleSource(asked, features, bank, 8, {"caption": 1.0}, per_video=2, witness=witness, windows=(8.0, 12.0)))


def test_lookups_teach_finding_and_leave_the_stack_and_the_heads_alone() -> None:
    taught, batch = training(), lookups().batch(0)
    assert float((batch.batch.mentioned == 1).sum()) > 5
    loss, figures = taught(batch)
    assert {name.removeprefix("found ") for name in figures} == {"track_states", "track_acts", "mentioned"}
    assert float(sum(figures.values())) == pytest.approx(float(loss.detach()))
    heads, parts = learnt(taught, loss)
    assert heads == {"crossing", "track_told.states", "track_told.acts"}
    assert parts == {"from_text", "kind", "place", "tracks", "before"}
    whole, same = training().eval(), training().eval()
    same.load_state_dict(whole.state_dict())
    _, found = whole(batch.batch)
    _, alone = same(batch)
    assert float(found["mentioned"]) == pytest.approx(float(alone["found mentioned"]))
    assert torch.equal(lookups().part(1, 1, 2).batch.frames, lookups().source.part(1, 1, 2).frames)
    assert lookups().describe_batch(3) == lookups().source.describe_batch(3)


def training() -> CrossingTraining:
    interaction = InteractionConfig(
        text_dim=3, video_dim=3, width=8, num_layers=1, tracks=WorldWitness.num_tracks, track_width=4, track_layers=1, d_state=2
    )
    adapter = AdapterConfig(dim=3, num_layers=0, text_layers=0)
    model = VideoTextModel(VideoTextConfig(encoder="mean", fingerprint="f", adapter=adapter, interaction=interaction))
    return CrossingTraining(model, LossConfig(), WorldWitness.num_acts, WorldWitness.num_tracks)


def learnt(taught: CrossingTraining, loss: torch.Tensor) -> tuple[set[str], set[str]]:
    """What the loss moves: heads of the training, and parts of the interaction."""
    loss.backward()
    moved = [name for name, parameter in taught.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0]
    heads = {name.split(".")[0] if name.startswith("crossing.") else name.rpartition(".")[0] for name in moved}
    return heads, {name.split(".")[2] for name in moved if name.startswith("crossing.")}


def test_a_scene_is_a_window_of_its_video_with_all_that_is_known_of_it() -> None:
    source = scenes(40)
    batch, numbers = source.batch(3), source._numbers(3)
    assert set(numbers) == set(range(5))
    for item, number in enumerate(numbers):
        shown, rows = source.features[number], int(batch.mask[item].sum())
        first = int(batch.frames[item, 0, 1])
        assert batch.frames[item, :rows].tolist() == shown.vectors[first : first + rows].tolist()
        assert rows == min(16, len(shown.times))
        states, acts = source.witness.tell_all(number, shown.times[first : first + rows])
        np.testing.assert_array_equal(batch.track_states[item, :rows].numpy(), states)
        np.testing.assert_array_equal(batch.track_acts[item, :rows].numpy(), acts)
        assert batch.times[item, 0] == 0
    halves = [source.part(3, rank, 2) for rank in range(2)]
    assert all(isinstance(half, Scenes) and len(half.frames) == 20 for half in halves)
    both = {tuple(row) for half in halves for row in half.frames[:, 0].tolist()}
    assert both == {tuple(row) for row in batch.frames[:, 0].tolist()}


def test_a_share_of_scenes_shows_every_second_row() -> None:
    source = scenes(12)
    thin = [replace(source, thin_share=0.5).batch(index) for index in range(20)]
    steps = Counter[int]()
    for index, batch in enumerate(thin):
        full = source.batch(index)
        step = 1 if batch.frames.shape == full.frames.shape else 2
        steps[step] += 1
        for item in range(12):
            real = int(full.mask[item].sum())
            rows = len(range(0, real, step))
            assert int(batch.mask[item].sum()) == rows
            for name in ("frames", "times", "track_states", "track_acts"):
                thinned, whole = getattr(batch, name)[item, :rows], getattr(full, name)[item, :real:step]
                assert torch.equal(thinned.nan_to_num(), whole.nan_to_num())
    assert min(steps[1], steps[2]) > 4


@dataclass(frozen=True)
class Named:
    name: str

    def batch(self, index: int) -> Any:
        return self.name, index

    def part(self, index: int, rank: int, ranks: int) -> Any:
        return self.name, index, rank, ranks

    def describe_batch(self, index: int) -> str:
        return f"{self.name} {index}"


def test_a_curriculum_begins_with_glimpses_scenes_and_lookups_and_goes_on_with_windows_and_whole_videos() -> None:
    made = Curriculum(Named("glimpse"), Named("scene"), Named("lookup"), Named("window"), Named("whole"), 3, 2, 4, 0.75)
    assert [made.batch(index)[0] for index in range(9)] == ["glimpse"] * 3 + ["scene"] * 2 + ["lookup"] * 4
    names = Counter(made.batch(index)[0] for index in range(9, 809))
    assert 550 < names["window"] < 650
    assert names["window"] + names["whole"] == 800
    assert made.part(1, 1, 2) == ("glimpse", 1, 1, 2)
    assert made.describe_batch(1) == "glimpse 1"


def test_ranks_share_a_batch_of_glimpses() -> None:
    source = glimpses(8)
    parts = [source.part(2, rank, 2) for rank in range(2)]
    assert all(isinstance(part, Glimpses) and len(part.frames) == 4 for part in parts)
    assert torch.equal(torch.cat([part.frames for part in parts]), source.batch(2).frames)  # type: ignore[union-attr]


def test_the_loss_of_states_is_that_of_a_plain_loop_over_rows() -> None:
    batch = glimpses().batch(0)
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(len(batch.states), sum(STATE_SIZES), generator=generator)
    total = 0.0
    for row, known in zip(said, batch.states, strict=True):
        probability = torch.sigmoid(row[0])
        if known[0] == 0:
            total -= float(torch.log(1 - probability))
            continue
        total -= float(torch.log(probability))
        total += float(((row[1:6] - known[1:6]) ** 2).mean()) * 5
        first = 6
        for place, size in enumerate(STATE_SIZES[2:]):
            total -= float(row[first : first + size].log_softmax(dim=0)[int(known[6 + place])])
            first += size
    assert float(_state_loss(said, batch.states)) == pytest.approx(total / len(said), rel=1e-5)
