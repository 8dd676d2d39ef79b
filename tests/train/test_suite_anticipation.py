from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.suite_toys import ToyEncoder, toy_deeds
from vlm.data.formats import epic100
from vlm.data.formats.records import Window
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import next_events
from vlm.errors import InputError
from vlm.models.suite.anticipation import Outlook
from vlm.train.losses.foresight import foresight_loss, present_loss
from vlm.train.suite_anticipation import TASK, present_of
from vlm.train.suite_deeds import AnticipationDataConfig, Deed, deeds_of, onsets_of, read_deeds
from vlm.types import Span


def logits(*chances: float) -> Tensor:
    return torch.tensor(chances).log()


def test_the_loss_is_the_sum_of_three_cross_entropies_at_the_horizon_that_was_asked_about():
    # Two moments, two horizons; the other horizon's logits are of no meaning.
    other = torch.full((2,), 7.0)
    verbs = torch.stack([torch.stack([logits(0.25, 0.75), other]), torch.stack([other, logits(0.5, 0.5)])])
    nouns = torch.stack([torch.stack([logits(0.1, 0.9), other]), torch.stack([other, logits(0.8, 0.2)])])
    actions = torch.stack([torch.stack([logits(0.2, 0.8), other]), torch.stack([other, logits(0.4, 0.6)])])
    wanted = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 0])
    loss, parts = foresight_loss(Outlook(verbs, nouns, actions), torch.tensor([0, 1]), wanted)
    assert parts["verb"] == pytest.approx(-(math.log(0.25) + math.log(0.5)) / 2, rel=1e-5)
    assert parts["noun"] == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2, rel=1e-5)
    assert parts["action"] == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2, rel=1e-5)
    assert loss == pytest.approx(sum(map(float, parts.values())), rel=1e-5)


def test_without_a_moment_nothing_is_learnt_and_the_loss_is_zero():
    empty = torch.zeros(0, dtype=torch.int64)
    outlook = Outlook(*(torch.zeros(0, 1, 3, requires_grad=True) for _ in range(3)))
    assert foresight_loss(outlook, empty, (empty, empty, empty))[0].item() == 0.0


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
def test_a_batch_without_a_moment_is_no_failure(mixer: str):
    videos, data = replace(toy_deeds(2), onsets=((), ())), AnticipationDataConfig(batch=2, longest=20)
    model = TASK.build(TASK.section(width=16, d_state=4, mixer=mixer), videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
    loss, _ = TASK.training(model)(TASK.source(videos, data, model, seed=0).batch(0))
    loss.backward()
    assert loss.item() == 0.0


def test_what_goes_on_together_shares_a_row_and_nothing_is_a_class():
    # Rows: nothing goes on; the first class; both.
    group = torch.stack([logits(0.5, 0.3, 0.2), logits(0.1, 0.7, 0.2), logits(0.2, 0.2, 0.6)])
    held = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    wanted = -(math.log(0.5) + math.log(0.7) + (math.log(0.2) + math.log(0.6)) / 2) / 3
    assert present_loss([group], [held]) == pytest.approx(wanted, rel=1e-5)
    assert present_loss([group, group], [held, held]) == pytest.approx(2 * wanted, rel=1e-5)


@pytest.mark.parametrize("horizon", [0.5, 1.0, 2.0])
def test_onsets_of_a_world_are_its_next_events_each_before_its_start(horizon: float):
    data = AnticipationDataConfig(horizons=(horizon,), labels="actions")
    for number in range(20):
        world = make_world(5, number)
        onsets, following = onsets_of(world, data), next_events(world, foresight=horizon)
        assert len(onsets) == len(following)
        for onset, each in zip(onsets, following, strict=True):
            event = world.events[each.event]
            assert onset.action == f"{event.action}, {event.look.shape}"
            assert onset.cut + horizon == pytest.approx(event.span.start)
            assert not any(onset.cut <= other.span.start < event.span.start for other in world.events)


def test_nouns_can_tell_colours_too():
    data = AnticipationDataConfig(nouns="looks")
    world = make_world(5, 1)
    assert [deed.noun for deed in deeds_of(world, data)] == [f"{event.look.colour} {event.look.shape}" for event in world.events]
    assert len(TASK.classes(data)) == 29 * 64


def test_what_goes_on_is_told_of_every_row():
    config = TASK.build(TASK.section(), ("run, cat", "bump, dog"), ToyEncoder(), AnticipationDataConfig()).config  # type: ignore[arg-type]
    deeds = (Deed(Span(0.5, 1.5), "run", "cat"), Deed(Span(1.0, 2.0), "bump", "dog", ("cat", "mouse")))
    held = present_of(deeds, np.arange(5) / 2, config)
    # verbs run, bump; nouns cat, dog; those it is done to
    assert held.astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [0, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_moments_of_a_stretch_are_told_in_its_rows():
    videos, data = toy_deeds(6), AnticipationDataConfig(batch=3, longest=20)
    model = TASK.build(TASK.section(width=16, d_state=4), videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
    source = TASK.source(videos, data, model, seed=0)
    found = 0
    for index in range(6):
        batch = source.batch(index)
        assert len(batch.truth.present) == int(batch.mask.sum())
        for item, last, action in zip(batch.truth.item, batch.truth.last, batch.truth.action, strict=True):
            verb = videos.classes[int(action)].split(", ")[0]
            shown = batch.frames[item, : int(last) + 1, :3].argmax(dim=1)
            assert int(shown[-1]) == 0  # nothing shows what begins
            assert {1: "spin", 2: "fall"}[int(shown[shown > 0][-1])] == verb if bool((shown > 0).any()) else True
            found += 1
    assert found > 10


def test_changes_are_told_on_a_scale_of_their_own():
    videos, data = toy_deeds(6), AnticipationDataConfig()
    model = TASK.build(TASK.section(width=16, d_state=4), videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
    TASK.prepare(model, videos)
    changes = np.concatenate([np.diff(videos.features[number].vectors, axis=0) for number in range(6)])
    told = model.standardise_changes(torch.from_numpy(changes))
    assert float(told.std()) == pytest.approx(1.0, abs=0.1)
    assert float(model.standardise_changes.spread.min()) >= 0.05 * float(model.standardise_changes.spread.median()) * 0.999


def narration(number: int, video: str, start: float, verb: int, nouns: tuple[int, ...]) -> epic100.Narration:
    words = tuple(("tap", "plate", "cup")[noun] for noun in nouns)
    action = epic100.Action(
        narration="x", verb="grab", verb_class=verb, noun=words[0], noun_class=nouns[0], nouns=words, noun_classes=nouns
    )
    window = Window(start, start + 1.0)
    return epic100.Narration(
        narration_id=f"{video}_{number}",
        participant_id="P01",
        video_id=video,
        narration_seconds=start,
        window=window,
        frames=(int(start * 50) + 1, int(start * 50) + 50),
        action=action,
    )


def test_narrations_are_read_by_the_names_of_their_classes(tmp_path: Path):
    rows = [narration(0, "P01_02", 0.5, 1, (2, 0)), narration(1, "P01_02", 4.0, 0, (1,)), narration(2, "P01_01", 3.0, 0, (1,))]
    epic100.write_narrations(tmp_path / "EPIC_100_train.csv", rows)
    for name, keys in (("verb", ("take", "put-down")), ("noun", ("tap", "plate", "cup"))):
        classes = [epic100.ActionClass(number, key, (key,), "x") for number, key in enumerate(keys)]
        epic100.write_classes(tmp_path / f"EPIC_100_{name}_classes.csv", classes)
    (tmp_path / "videos").mkdir()
    for name in ("P01_01", "P01_02"):
        (tmp_path / "videos" / f"{name}.mp4").touch()
    words = (tmp_path / "EPIC_100_train.csv", tmp_path / "videos", ToyEncoder(), tmp_path / "cache")
    videos = read_deeds(*words, rate=2.0, horizons=(1.0, 2.0))  # type: ignore[arg-type]
    assert videos.ids == ("P01_01", "P01_02")
    assert videos.classes == ("put-down, cup", "take, plate")
    assert videos.deeds[1] == (Deed(Span(0.5, 1.5), "put-down", "cup", ("tap",)), Deed(Span(4.0, 5.0), "take", "plate"))
    # Half a second into the video nothing was seen a second before.
    assert [(onset.cut, onset.horizon, onset.action) for onset in videos.onsets[1]] == [
        (3.0, 1.0, "take, plate"),
        (2.0, 2.0, "take, plate"),
    ]
    epic100.write_classes(tmp_path / "other.csv", [epic100.ActionClass(0, "take", ("take",), "x")])
    (tmp_path / "EPIC_100_verb_classes.csv").unlink()
    (tmp_path / "other.csv").rename(tmp_path / "EPIC_100_verb_classes.csv")
    with pytest.raises(InputError, match="has the class 1, which the file of classes beside it lacks"):
        read_deeds(*words, rate=2.0, horizons=(1.0,))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("horizons", ()), ("horizons", (0.0,)), ("nouns", "shape")])
def test_data_that_breaks_a_rule_is_refused(name: str, value: object):
    with pytest.raises(InputError, match=name):
        AnticipationDataConfig(**{name: value})  # type: ignore[arg-type]
