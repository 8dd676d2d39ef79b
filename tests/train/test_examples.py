"""Examples become passes and targets as they should, whatever is known of them, and a model learns from them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.train.test_retrieval import Encoder
from vlm.data.toybox.language import SHAPE_WORDS
from vlm.data.toybox.motion import states
from vlm.data.toybox.splits import is_held_out_order
from vlm.data.toybox.vocabulary import COLOURS, SHAPES
from vlm.errors import InputError
from vlm.models.model import VideoTextModel
from vlm.train.batches import ExampleSource, row_targets
from vlm.train.examples import (
    IGNORED,
    NUM_STATES,
    Example,
    Sight,
    passes_of,
    rows_within,
    texts_of,
    unseen,
    within,
)
from vlm.train.log import read_log
from vlm.train.recipe import recipe_path, task_of
from vlm.train.toybox import ExamplesConfig, train_toybox, worlds_of
from vlm.train.toybox_examples import ANSWERS, LABELS, KindsConfig, WorldWitness, world_examples
from vlm.train.video_text import _choices
from vlm.train.words import TextBank
from vlm.types import Features, Span


class Codec:
    vocabulary_size, start, end = 40, 0, 1

    def encode(self, text: str) -> list[int]:
        return [2 + ord(letter) % 38 for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(97 + token % 26) for token in tokens)


class Speaking(Encoder):
    text_codec = Codec()


FEATURES = [
    Features(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], np.array([0.0, 1.0, 2.0, 5.0]), 6.0),
    Features(np.eye(3, dtype=np.float32)[[1, 2]], np.array([0.0, 0.5]), 1.0),
]
EXAMPLES = [
    Example(video=0, text="a a", kind="event", spans=(Span(0.9, 2.0), Span(4.9, 6.0)), has_moments=True, levels={1: 4}, is_true=True),
    Example(video=1, text="bb", kind="absent", has_moments=True, is_true=False, is_answerable=False),
    Example(video=0, text="which?", kind="first", options=("a b", "c d"), answer="c d", is_answerable=True),
    Example(video=1, text="is it?", kind="yes_no", options=("no", "yes"), answer="yes"),
    Example(video=0, text="what?", kind="open", answer="abc"),
]


def source(examples: list[Example] = EXAMPLES, **options: object) -> ExampleSource:
    answers = ("yes", "no", "red")
    shares = {"event": 1.0, "absent": 1.0, "first": 1.0, "yes_no": 1.0, "open": 1.0}
    bank = TextBank(Encoder(), texts_of(examples, answers))  # type: ignore[arg-type]
    return ExampleSource(examples, FEATURES, bank, 6, shares, answers=answers, codec=Codec(), **options)  # type: ignore[arg-type]


def test_what_is_known_becomes_targets_and_what_is_not_is_ignored() -> None:
    batch = source().batch_of(EXAMPLES)
    assert len(batch.frames) == 2  # each video once
    assert batch.video.tolist() == [0, 1, 0, 0, 0, 0, 1, 0]  # two options of one choice behind it, and alone
    assert batch.is_true.tolist() == [1, 0, *[IGNORED] * 6]
    assert batch.is_answerable.tolist() == [IGNORED, 0, 1, 1, *[IGNORED] * 4]
    assert batch.has_moments.tolist() == [True, True, *[False] * 6]
    assert batch.closed.tolist() == [IGNORED] * 6 + [0, IGNORED]
    assert batch.group.tolist() == [-1, -1, 2, 2, 2, 2, -1, -1]
    assert batch.is_right.tolist() == [False, False, False, True, *[False] * 4]
    assert batch.is_alone.tolist() == [False, False, False, False, True, True, False, False]
    alone = Encoder().encode_text_tokens(["a b", "c d"])
    np.testing.assert_allclose(batch.words.tokens[4:6, :2].numpy(), alone.vectors)
    assert batch.said[7, : batch.said_mask[7].sum()].tolist() == [*Codec().encode("abc"), Codec.end]
    assert batch.said[6, : batch.said_mask[6].sum()].tolist() == [*Codec().encode("yes"), Codec.end]  # on the list, and in words
    assert not batch.said_mask[:6].any()
    without = replace(source(), codec=None)
    assert not without.batch_of(EXAMPLES[:4]).said_mask.any()
    with pytest.raises(InputError, match="no tokenizer"):
        without.batch_of(EXAMPLES[4:])
    assert batch.foreground[0].tolist() == [0.0, 1.0, 0.0, 1.0]  # centres 0.5, 1.5, 3.5, 5.5
    assert batch.spans[0, 1].tolist() == pytest.approx([0.9, 2.0])
    assert batch.spans[0, 3].tolist() == pytest.approx([4.9, 6.0])
    assert batch.levels[0].tolist() == [0.0, 4.0, 0.0, 0.0]
    assert batch.mask.sum(dim=1).tolist() == [4, 2]
    assert not batch.is_witnessed.any()


def test_of_spans_that_overlap_the_shorter_has_the_row_and_the_shortest_still_has_one() -> None:
    example = Example(video=0, text="x", spans=(Span(0.0, 6.0), Span(1.2, 1.3), Span(5.0, 5.1)), has_moments=True)
    foreground, spans, _ = row_targets(example, FEATURES[0])
    assert foreground.tolist() == [1.0] * 4
    assert spans.tolist() == [pytest.approx(pair) for pair in ((0.0, 6.0), (1.2, 1.3), (0.0, 6.0), (5.0, 5.1))]


def test_kinds_are_drawn_by_their_shares_and_sides_of_a_kind_evenly() -> None:
    many = [Example(video=0, text="a", kind="k", side="common", is_true=True)] * 9
    many += [Example(video=0, text="a", kind="k", side="rare", is_true=False), Example(video=0, text="a", kind="other", is_true=True)]
    made = ExampleSource(many, FEATURES, TextBank(Encoder(), ["a"]), 50, {"k": 3.0, "other": 1.0})  # type: ignore[arg-type]
    drawn = Counter(many[number].kind + many[number].side for index in range(40) for number in made.numbers(index))
    assert drawn["other"] / 2000 == pytest.approx(0.25, abs=0.04)
    assert drawn["krare"] / (drawn["krare"] + drawn["kcommon"]) == pytest.approx(0.5, abs=0.05)
    assert made.numbers(7) == made.numbers(7)


def many_videos(**options: object) -> ExampleSource:
    """Forty videos of 1 to 40 s, each with six texts."""
    features = [Features(np.ones((seconds, 3), np.float32), np.arange(float(seconds)), float(seconds)) for seconds in range(1, 41)]
    asked = [Example(video=video, text="a", kind="k", is_true=True) for video in range(40) for _ in range(6)]
    return ExampleSource(asked, features, TextBank(Encoder(), ["a"]), 16, {"k": 1.0}, per_video=4, **options)  # type: ignore[arg-type]


def test_a_batch_asks_of_few_videos_of_like_length_and_in_the_end_of_all() -> None:
    made = many_videos()
    asked: Counter[int] = Counter()
    spread = []
    for index in range(200):
        videos = [made.examples[number].video for number in made.numbers(index)]
        assert len(videos) == 16
        assert all(count % 4 == 0 for count in Counter(videos).values())
        asked.update(videos)
        spread.append(max(videos) - min(videos))
    assert len(asked) == 40
    assert set(asked.values()) == {80}
    assert np.mean(spread) < 10  # of 40; four at random lie 23 apart


def test_clocks_are_late_and_the_truth_is_not() -> None:
    late = many_videos(latest_clock=600.0)
    clocks = [float(late.batch(index).clock[0]) for index in range(20)]
    assert 0 <= min(clocks) < 100
    assert 500 < max(clocks) < 600
    assert torch.equal(late.batch(3).times, many_videos().batch(3).times)
    assert float(many_videos().batch(3).clock.max()) == 0


def test_a_witness_tells_how_a_thing_is_and_what_it_does() -> None:
    worlds = worlds_of(3, 6, split="train")
    witness = WorldWitness(worlds, 2.0)
    for number, world in enumerate(worlds):
        times = np.arange(0, world.seconds, 0.5)[3:9]
        seen = states(world, times)
        for thing in range(len(world.things)):
            told, acts = witness.tell(number, thing, times)
            assert told.shape == (len(times), NUM_STATES)
            assert np.array_equal(told[:, 0] > 0, seen.is_shown[:, thing])
            assert np.array_equal(np.isnan(told[:, 1:]).any(axis=1), ~seen.is_shown[:, thing])
            for row in np.flatnonzero(seen.is_shown[:, thing]):
                assert told[row, 1] == pytest.approx((seen.x[row, thing] - 0.5) / 0.25, abs=1e-5)
                assert np.arctan2(told[row, 4], told[row, 5]) == pytest.approx(np.angle(np.exp(1j * seen.angle[row, thing])), abs=1e-5)
                names = (seen.colour_name_index()[row, thing], seen.shape[thing], seen.texture[thing], seen.size[row, thing])
                assert tuple(told[row, 6:]) == names
            for row, time in enumerate(times):
                does = {event.label for event in world.events if event.subject == thing and event.span.start <= time < event.span.end}
                assert {LABELS[act] for act in np.flatnonzero(acts[row])} == does


def test_on_the_track_of_a_colour_is_what_the_thing_of_that_colour_does() -> None:
    worlds = worlds_of(3, 6, split="train")
    witness = WorldWitness(worlds, 2.0)
    found = 0
    for number, world in enumerate(worlds):
        times = np.arange(0, world.seconds, 0.5)
        seen = states(world, times)
        told, acts = witness.tell_all(number, times)
        assert told.shape == (len(times), len(COLOURS), NUM_STATES)
        for row in range(len(times)):
            here = [thing for thing in range(len(world.things)) if world.things[thing].scene == seen.scene[row]]
            owner = {int(seen.colour_name_index()[row, thing]): thing for thing in here}
            assert len(owner) == len(here)
            for colour in range(len(COLOURS)):
                thing = owner.get(colour)
                own = witness.tell(number, thing, times[row : row + 1]) if thing is not None else None
                if own is None or not seen.is_shown[row, thing]:
                    assert told[row, colour, 0] == 0
                    assert np.isnan(told[row, colour, 1:]).all()
                else:
                    np.testing.assert_array_equal(told[row, colour], own[0][0])
                assert acts[row, colour].tolist() == (own[1][0].tolist() if own is not None else [False] * witness.num_acts)
                found += int(acts[row, colour].sum())
    assert found > 100


def test_of_a_text_about_one_thing_that_is_shown_the_batch_tells_how_it_is() -> None:
    worlds = worlds_of(3, 6, split="train")
    features = [Features(np.ones((4, 3), np.float32), np.arange(4) / 2, 2.0)] * 6
    asked = [Example(video=video, text="a", kind="k", answer="b" if video else None, things=(0,) * (1 + video % 2)) for video in range(6)]
    witness = WorldWitness(worlds, 2.0)
    bank = TextBank(Encoder(), ["a"])  # type: ignore[arg-type]
    made = ExampleSource(asked, features, bank, 6, {"k": 1.0}, codec=Codec(), witness=witness)
    batch = made.batch_of([asked[0], unseen(asked[4]), asked[1], asked[2]])
    assert batch.is_witnessed.tolist() == [True, False, False, True]
    states_of, acts_of = witness.tell(2, 0, features[2].times)
    np.testing.assert_array_equal(batch.states[3].numpy(), states_of)
    np.testing.assert_array_equal(batch.acts[3].numpy(), acts_of)
    assert batch.is_tracked.tolist() == [True, False, True, True]  # the fifth video is withheld
    of_all = witness.tell_all(2, features[2].times)
    for held, told in zip((batch.track_states, batch.track_acts), of_all, strict=True):
        np.testing.assert_array_equal(held[3].numpy(), told)
    unknown = ExampleSource(asked, features, bank, 6, {"k": 1.0}, codec=Codec()).batch_of(asked)
    assert not unknown.is_witnessed.any()
    assert not unknown.is_tracked.any()


def test_what_a_text_mentions_is_what_happens_each_event_in_its_role() -> None:
    worlds = worlds_of(3, 12, split="train")
    seen: Counter[str] = Counter()
    for number, world in enumerate(worlds):
        doing = {(event.subject, event.span): event for event in world.events}
        for one in world_examples(world, number):
            seen[f"{one.kind} {len(one.mentions)}"] += 1
            assert one.kind == "thing" or all(said in doing for slot in one.mentions for said in slot)
            if one.kind in ("before_after", "first") and one.mentions:
                first, second = (min(span.start for _, span in slot) for slot in one.mentions)
                if one.kind == "before_after":
                    assert one.answer == ("before" if first < second else "after")
                else:
                    earlier = any(word in one.text for word in ("happens first", "comes first"))
                    assert one.options.index(one.answer or "") == int((first < second) != earlier)
            if one.kind == "how_many" and one.mentions:
                (slot,) = one.mentions
                number_of = len(slot) if one.things else len({thing for thing, _ in slot})
                assert one.answer == (("once", "twice") if one.things else ("one", "two", "three"))[number_of - 1]
            if one.kind == "order":
                first, second = one.mentions
                in_order = all(early.end <= late.start for _, early in first for _, late in second)
                assert in_order == (one.side != "twin")
                if one.side != "twin":
                    assert {Span(early.start, late.end) for _, early in first for _, late in second} <= set(one.spans)
            if one.kind == "absent":
                assert one.mentions == ((),)
            if one.kind == "event":
                assert {span for _, span in one.mentions[0]} <= set(one.spans)
                assert len(one.mentions[0]) >= 1
    assert {"before_after 2", "first 2", "event 1", "absent 1", "yes_no 1", "negation 0", "order 2"} <= seen.keys()


def test_things_are_on_screen_when_one_of_that_look_is_shown_and_others_never() -> None:
    """Against the look of each thing at each time, name by name."""
    worlds, sides = worlds_of(3, 12, split="train"), Counter[bool]()
    for number, world in enumerate(worlds):
        times = np.arange(0, world.seconds, 0.1)
        seen = states(world, times)
        colours = seen.colour_name_index()
        for one in world_examples(world, number):
            if one.kind != "thing":
                continue
            assert one.is_true is not None
            sides[one.is_true] += 1
            words = set(one.text.replace("-", " ").split())
            colour = next((name for name in COLOURS if name in words), None)
            for row in range(0, len(times), 7):
                shows = any(
                    seen.is_shown[row, thing] and (colour is None or list(COLOURS)[colours[row, thing]] == colour) for thing in one.things
                )
                inside = any(span.start <= round(float(times[row]), 6) < span.end for span in one.spans)
                assert inside <= shows
                if inside:
                    assert any(span.start <= round(float(times[row]), 6) < span.end for _, span in one.mentions[0])
            assert all(any(span.start <= second + 0.5 < span.end for span in one.spans) for second in one.levels)
            if not one.is_true:
                assert (one.spans, one.mentions, one.things) == ((), ((),), ())
                alike = {int(seen.shape[k]) for k in range(len(world.things)) if colour in np.take(list(COLOURS), colours[:, k])}
                assert not any(word in words for shape in alike for word in SHAPE_WORDS[list(SHAPES)[shape]])
    assert sides[True] > 20
    assert sides[False] > 10


def test_slots_are_told_which_track_does_what_is_mentioned_and_when() -> None:
    worlds = worlds_of(3, 12, split="train")
    features = []
    for world in worlds:
        times = np.arange(0, world.seconds, 0.5)
        features.append(Features(np.ones((len(times), 3), np.float32), times, world.seconds))
    drawn = [one for number, world in enumerate(worlds) for one in world_examples(world, number)]
    kept = [next(one for one in drawn if one.kind == kind and one.mentions) for kind in ("first", "event", "absent", "how_many")]
    kept[1] = next(one for one in drawn if one.kind == "event" and one.video != kept[0].video)  # of which a window is shown
    kept.append(next(one for one in drawn if one.kind == "negation"))
    bank = TextBank(Encoder(), texts_of(kept, ANSWERS))  # type: ignore[arg-type]
    witness = WorldWitness(worlds, 2.0)
    made = ExampleSource(kept, features, bank, 5, {one.kind: 1.0 for one in kept}, answers=ANSWERS, codec=Codec(), witness=witness)
    for windows in ({}, {kept[1].video: Span(2.0, 14.0)}):
        batch = made.batch_of(kept, windows=windows)
        passes = [(kept[0], 0), (kept[0], 1), None, None, *((one, None) for one in kept[1:])]
        for row, given_pass in enumerate(passes):
            if given_pass is None:  # an option alone, of which nothing is told
                assert batch.mentioned[row, batch.mask[batch.video[row]]].isnan().all()
                continue
            one, option = given_pass
            said = [*one.mentions, *([None] * (2 - len(one.mentions))), None if option is None else one.mentions[option]]
            if option is not None:  # what it says of the order is the words' alone
                says_first = any(words in one.text for words in ("happens first", "comes first"))
                said[:2] = [one.mentions[option if says_first else 1 - option], one.mentions[1 - option if says_first else option]]
            start = windows[one.video].start if one.video in windows else 0.0
            seen = states(worlds[one.video], features[one.video].times)
            times = batch.times[batch.video[row]][batch.mask[batch.video[row]]].numpy() + start
            for slot, events in enumerate(said):
                told = batch.mentioned[row, : len(times), slot].numpy()
                if events is None:
                    assert np.isnan(told).all()
                    continue
                expected = np.zeros_like(told)
                for thing, span in events:
                    for place, time in enumerate(times):
                        if span.start <= time < span.end:
                            expected[place, seen.colour_name_index()[round(time * 2), thing]] = 1
                np.testing.assert_array_equal(told, expected)
    assert float((made.batch_of(kept[:1]).mentioned == 1).sum()) > 10


WINDOW = Span(2.0, 5.0)


def test_in_a_window_a_text_holds_where_it_held_and_is_untrue_where_nothing_of_it_is_left() -> None:
    held = Example(
        video=0, text="a", spans=(Span(0.5, 1.5), Span(1.5, 3.0), Span(4.5, 9.0)), has_moments=True, levels={1: 2, 2: 4}, is_true=True
    )
    seen = within(held, WINDOW)
    assert seen.spans == (Span(0.0, 1.0), Span(2.5, 3.0))
    assert seen.levels == {0: 4}
    assert seen.is_true is True
    gone = within(replace(held, spans=(Span(0.5, 2.0), Span(5.0, 6.0))), WINDOW)
    assert gone.spans == ()
    assert gone.is_true is False
    assert within(replace(held, spans=(), is_true=False), WINDOW).is_true is False
    told = replace(held, is_answerable=True)
    assert within(told, WINDOW).is_answerable is None  # a moment is cut off, and the next thing may be too
    assert within(replace(told, spans=(Span(2.0, 3.0),)), WINDOW).is_answerable is True
    assert within(replace(told, spans=(), is_true=None), WINDOW).is_answerable is None
    assert within(replace(told, spans=(), is_true=False, is_answerable=False), WINDOW).is_answerable is False
    rows = rows_within(Features(np.arange(24.0).reshape(8, 3).astype(np.float32), np.arange(8.0), 8.0), WINDOW)
    assert rows.times.tolist() == [0.0, 1.0, 2.0]
    assert rows.end == 3.0
    assert rows.vectors[0].tolist() == [6.0, 7.0, 8.0]


def test_an_answer_is_known_where_a_window_holds_all_of_its_evidence() -> None:
    asked = Example(
        video=0,
        text="which?",
        spans=(Span(2.0, 3.0), Span(4.0, 5.0)),
        has_moments=True,
        options=("a", "b"),
        answer="a",
        is_answerable=True,
        mentions=(((0, Span(2.0, 3.0)),), ((1, Span(4.0, 5.0)),)),
    )
    seen = within(asked, WINDOW)
    assert (seen.options, seen.answer, seen.is_answerable, seen.has_moments) == (("a", "b"), "a", True, True)
    for spans in ((Span(1.5, 3.0), Span(4.0, 5.0)), (Span(2.0, 3.0), Span(6.0, 7.0))):
        lost = within(replace(asked, spans=spans), WINDOW)
        assert (lost.options, lost.answer, lost.is_answerable, lost.has_moments) == ((), None, None, False)
    nothing = within(replace(asked, spans=(), mentions=((),), options=("yes", "no"), answer="no"), WINDOW)
    assert (nothing.answer, nothing.is_answerable) == ("no", True)  # what never happens does not happen here
    order = replace(asked, options=(), answer=None, is_true=True, is_answerable=None, spans=(Span(2.0, 5.0),))
    assert within(order, WINDOW).is_true is True
    assert within(replace(order, spans=(Span(2.0, 5.5),)), WINDOW).is_true is None
    assert within(replace(order, spans=(), is_true=False), WINDOW).is_true is False


def test_windows_hold_all_of_a_question_where_they_can() -> None:
    features = [Features(np.ones((80, 3), np.float32), np.arange(80) / 2, 39.7)] * 2
    evidence = (Span(9.3, 11.0), Span(19.0, 20.8)), (Span(1.0, 3.0), Span(30.2, 39.7))
    asked = [
        Example(video=video, text="a", kind="k", spans=spans, options=("x", "y"), answer="x", has_moments=True)
        for video, spans in enumerate(evidence)
    ]
    made = ExampleSource(asked, features, TextBank(Encoder(), ["a"]), 2, {"k": 1.0}, answers=("x", "y"), windows=(6.0, 12.0))  # type: ignore[arg-type]
    lengths = set()
    for index in range(60):
        batch = made.batch(index)
        for row in range(2):
            spans = asked[row].spans if float(batch.durations[batch.video[row]]) > 0 else ()
            assert spans
            assert batch.foreground[row].any()
        numbers = made.numbers(index)
        for row, number in enumerate(numbers):
            assert (int(batch.closed[row]) == 0) == (number == 0)  # the second's evidence fits no window
        lengths |= {round(seconds, 3) for seconds in batch.durations.tolist()}
    assert len(lengths) > 20


def test_windows_hold_a_moment_of_what_is_asked_and_lie_within_the_video() -> None:
    features = [Features(np.ones((80, 3), np.float32), np.arange(80) / 2, 40.0)] * 3
    asked = [
        Example(video=video, text="a", kind="k", spans=(Span(10.0 + video, 14.0),), has_moments=True, is_true=True) for video in range(3)
    ]
    made = ExampleSource(asked, features, TextBank(Encoder(), ["a"]), 3, {"k": 1.0}, windows=(6.0, 12.0))  # type: ignore[arg-type]
    starts = []
    for index in range(40):
        batch = made.batch(index)
        assert float(batch.durations.min()) > 4.9
        assert float(batch.durations.max()) <= 12.0
        assert batch.foreground.any(dim=1).all()
        starts.append(int(batch.foreground[0].argmax()))
    assert len(set(starts)) > 5  # moments lie anywhere in their window
    whole = ExampleSource(asked, features, TextBank(Encoder(), ["a"]), 3, {"k": 1.0})  # type: ignore[arg-type]
    assert whole.batch(0).durations.tolist() == [40.0] * 3


def test_a_share_of_batches_shows_every_second_row() -> None:
    made = many_videos(thin_share=0.5)
    whole = many_videos()
    steps = Counter[int]()
    for index in range(30):
        batch, full = made.batch(index), whole.batch(index)
        assert torch.equal(batch.durations, full.durations)
        step = 1 if batch.frames.shape == full.frames.shape else 2
        steps[step] += 1
        for video in range(len(batch.frames)):
            rows, real = int(batch.mask[video].sum()), int(full.mask[video].sum())
            assert torch.equal(batch.times[video, :rows], full.times[video, :real:step])
            assert torch.equal(batch.frames[video, :rows], full.frames[video, :real:step])
    assert min(steps[1], steps[2]) > 8


def test_a_share_without_an_example_is_refused() -> None:
    with pytest.raises(InputError, match="no example of 'missing': examples hold"):
        ExampleSource(EXAMPLES, FEATURES, TextBank(Encoder(), []), 2, {"event": 1.0, "missing": 1.0})  # type: ignore[arg-type]


def test_an_answer_that_is_no_option_is_refused() -> None:
    with pytest.raises(InputError, match=r"one of the options \['a', 'b'\], got 'c'"):
        Example(video=0, text="which?", options=("a", "b"), answer="c")


def test_what_is_shown_can_be_one_frame_or_nothing() -> None:
    one = Sight("frame").of(FEATURES[0], 5)
    assert one.vectors.shape == (1, 3)
    assert np.array_equal(one.vectors, Sight("frame").of(FEATURES[0], 5).vectors)
    assert not Sight("none").of(FEATURES[0], 5).vectors.any()
    assert source(sight=Sight("none")).batch_of(EXAMPLES).frames.abs().sum() == 0
    with pytest.raises(InputError, match="'all', 'frame' or 'none', got 'half'"):
        Sight("half")


def test_options_of_a_choice_are_compared_with_each_other_alone() -> None:
    group, is_right = torch.tensor([3, 3, 3, 5, 5]), torch.tensor([False, True, False, True, False])
    logits, right, real = _choices(torch.arange(5.0), group, is_right)
    assert logits.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]]
    assert right.tolist() == [1, 0]
    assert real.tolist() == [[True] * 3, [True, True, False]]


def test_every_example_of_a_world_says_what_its_truth_says() -> None:
    worlds = worlds_of(3, 12, split="train")
    kinds: Counter[str] = Counter()
    for video, world in enumerate(worlds):
        for example in world_examples(world, video):
            kinds[example.kind] += 1
            assert all(span.end <= world.seconds for span in example.spans)
            assert not (example.spans and example.is_true is False and example.kind != "count")
            if example.kind in ("event", "order", "direction"):
                assert example.has_moments
                assert bool(example.spans) == example.is_true
            if example.kind in ("how_many", "colour", "before_after", "yes_no"):
                assert passes_of([example], ANSWERS)[0].closed == ANSWERS.index(example.answer or "")
            if example.kind == "first":
                assert [one.is_right for one in passes_of([example], ANSWERS)].count(True) == 1
    assert set(kinds) == set(KindsConfig().shares())


RECIPE = """
task = "toybox"
[adapter]
dim = 3
num_layers = 1
text_layers = 1
d_state = 2
[interaction]
text_dim = 3
video_dim = 3
width = 8
num_layers = 1
d_state = 2
[data]
worlds = 6
batch = 6
retrieval_share = 0.4
[twins]
pairs = 2
batch_pairs = 1
batch_stretches = 2
phrasings = 2
[loop]
steps = 6
warmup_steps = 1
log_every = 2
"""


def test_a_training_of_everything_ends_in_a_model_with_every_part(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    train_toybox(recipe, tmp_path / "out", Speaking(), cache=tmp_path, mixer="vim", workers=2)  # type: ignore[arg-type]
    model = VideoTextModel.from_pretrained(tmp_path / "out" / "model")
    assert model.config.adapter.mixer == model.cross().interaction.config.mixer == "vim"
    assert model.config.answers == ANSWERS
    lines = read_log(tmp_path / "out")
    seen = {name for line in lines for name in line}
    assert {"crossing loss", "retrieval loss", "crossing foreground", "crossing match", "retrieval order"} <= seen
    whole = train_toybox(recipe, tmp_path / "whole", Speaking(), cache=tmp_path, mixer="vim")  # type: ignore[arg-type]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_recipe_can_learn_heads_alone_or_the_crossing_anew_from_what_a_training_left(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    whole = RECIPE.replace("retrieval_share = 0.4", "unseen_share = 0.0").replace("width = 8\n", 'width = 8\nfirst_mixer = "mamba"\n')
    recipe.write_text(whole)
    train_toybox(recipe, tmp_path / "first", Speaking(), cache=tmp_path, mixer="vim")  # type: ignore[arg-type]
    begun = VideoTextModel.from_pretrained(tmp_path / "first" / "model").cross().state_dict()
    same: dict[str, set[str]] = {}
    for learns, mixer in (("heads", "vim"), ("crossing", "attention")):
        recipe.write_text(whole.replace("batch = 6", f'batch = 6\nlearns = "{learns}"').replace("steps = 6", "steps = 2"))
        with pytest.raises(InputError, match=f"learns = '{learns}' learns a part: begin with a training"):
            train_toybox(recipe, tmp_path / learns, Speaking(), cache=tmp_path, mixer=mixer)  # type: ignore[arg-type]
        made = train_toybox(recipe, tmp_path / learns, Speaking(), cache=tmp_path, mixer=mixer, begin_with=tmp_path / "first")  # type: ignore[arg-type]
        assert (made.cross().interaction.config.mixer, made.cross().interaction.config.first_mixer) == (mixer, "mamba")
        held = made.cross().state_dict()
        # What does not learn is what it was, and what learns on as near as two steps leave it.
        near = {name for name, value in held.items() if name in begun and value.shape == begun[name].shape}
        most = 0.0 if learns == "heads" else 0.005
        same[learns] = {name for name in near if float((held[name] - begun[name]).abs().max()) <= most}
    parts = ("interaction.", "grounding.")
    assert {name for name in same["heads"] if name.startswith(parts)} == {name for name in begun if name.startswith(parts)}
    assert "match.mlp.2.weight" not in same["heads"]
    assert "interaction.tracks.part.1.weight" in same["crossing"]
    assert "grounding.foreground.convs.0.weight" not in same["crossing"]
    with pytest.raises(InputError, match="learns must be one of 'all', 'heads', 'answers', 'crossing', got 'tail'"):
        ExamplesConfig(learns="tail")


@pytest.mark.parametrize("name", ["toybox-grounding", "toybox-qa", "toybox-all", "toybox-rows", "toybox-heads", "toybox-answers"])
def test_shipped_recipes_name_their_task(name: str) -> None:
    assert task_of(recipe_path(name)) == "toybox"


def test_open_questions_need_a_tokenizer(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    with pytest.raises(InputError, match=r"'mean' has no tokenizer.*open = 0"):
        train_toybox(recipe, tmp_path / "out", Encoder(), cache=tmp_path)  # type: ignore[arg-type]


def test_texts_that_were_read_are_kept_and_are_what_they_were(tmp_path: Path) -> None:
    class Counting(Encoder):
        calls = 0

        def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
            type(self).calls += len(texts)
            return super().encode_text(texts)

    texts = ["a bb", "one two three", "x", "a bb"]
    banks = [TextBank(Counting(), texts, folder) for folder in (None, tmp_path, tmp_path)]  # type: ignore[arg-type]
    assert Counting.calls == 6  # three texts, twice
    for bank in banks:
        assert len(bank) == 3
        words = bank.words(["one two three", "x"])
        alone = Encoder().encode_text_tokens(["one two three"])
        np.testing.assert_allclose(words.tokens[0].numpy(), alone.vectors[0])
        assert words.mask.tolist() == [[True] * 3, [True, False, False]]
        np.testing.assert_allclose(words.pooled.numpy(), Encoder().encode_text(["one two three", "x"]), atol=1e-3)
    TextBank(Counting(), ["another"], tmp_path)  # type: ignore[arg-type]
    assert Counting.calls == 7


def test_questions_whose_video_is_withheld_teach_their_answer_and_nothing_else() -> None:
    hidden = source(unseen_share=1.0)
    for index in range(4):
        asked = [EXAMPLES[number] for number in hidden.numbers(index)]
        batch = hidden.batch(index)
        rows = passes_of(asked, hidden.answers)
        for row, one in enumerate(rows):
            video = batch.video[row]
            if one.example.answer is None and not one.is_alone:
                assert batch.frames[video].abs().sum() > 0
                continue
            assert int(batch.mask[video].sum()) == 1
            assert batch.frames[video].abs().sum() == 0
            assert not batch.has_moments[row]
            assert batch.is_answerable[row] == IGNORED
            assert (batch.closed[row], batch.group[row] >= 0, batch.said_mask[row].any()) == (one.closed, one.group >= 0, one.is_said)
    assert any(EXAMPLES[number].answer for index in range(4) for number in hidden.numbers(index))


def test_which_videos_are_withheld_does_not_change_what_is_drawn() -> None:
    plain, some = source(), source(unseen_share=0.5)
    assert [plain.numbers(index) for index in range(3)] == [some.numbers(index) for index in range(3)]
    assert torch.equal(some.batch(2).frames, some.batch(2).frames)


def test_what_follows_is_the_next_event_of_the_world_and_no_order_that_is_held_out() -> None:
    sides = set()
    for number, world in enumerate(worlds_of(8, 24, split="train")):
        for one in world_examples(world, number):
            if one.kind != "open" or "next" not in one.text:
                continue
            asked, following = (next(event for event in world.events if event.span == span) for span in one.spans)
            begun = [event for event in world.events if event.span.start >= asked.span.end]
            assert min(begun, key=lambda event: event.span.start) == following
            assert not is_held_out_order(asked.action, following.action)
            assert not {asked.subject, asked.target} & {following.subject, following.target} - {None}
            words = set(re.split(r"\W+", one.answer or ""))
            assert following.look.colour in words
            assert one.mentions == (((asked.subject, asked.span),),)
            sides.add(following.action)
    assert len(sides) > 6
