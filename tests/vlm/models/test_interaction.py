"""Words and frames together: exact under padding, in the order that was asked for, and heads that read what they should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.heads import (
    ClosedAnswerHead,
    Evidence,
    Grounding,
    GroundingHead,
    LogitHead,
    Summary,
    best_spans,
    evidence_of,
    precedence,
    standing,
    stretch_centres,
)
from vlm.models.interaction import Fused, Interaction, InteractionConfig, Lookup, Pairing, Tracks, Watched
from vlm.types import Span

CONFIG = InteractionConfig(
    text_dim=6, video_dim=8, width=12, num_layers=2, tracks=3, track_width=5, track_layers=1, text_layers=1, d_state=4, dropout=0.0, slots=4
)
MIXERS = ("mamba", "vim", "dbm", "attention")


class Whole(nn.Module):
    """Interaction and every head."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.interaction, self.ground = Interaction(config), GroundingHead(config.width)
        size = config.summary_size
        self.summary, self.match = Summary(config.width), LogitHead(size, config.width)
        self.answer = ClosedAnswerHead(size, config.width, ["red", "blue"])

    def forward(
        self, tokens: Tensor, text_mask: Tensor, frames: Tensor, times: Tensor, mask: Tensor, durations: Tensor
    ) -> dict[str, Tensor]:
        fused = self.interaction(tokens, text_mask, self.interaction.watch(frames, times, mask))
        found = self.ground(fused, times, durations)
        parts = {name: getattr(found, name) for name in ("foreground", "offsets", "saliency", "centres")}
        summary = self.summary(fused, evidence_of(found, durations))
        whole = {"summary": summary, "match": self.match(summary), "answer": self.answer(summary)}
        return parts | whole | {"text": fused.text, "video": fused.video, "found": fused.found}


def whole(config: InteractionConfig = CONFIG) -> Whole:
    torch.manual_seed(0)
    return Whole(config).double()


def item(q: int, t: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens, frames = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n, d in ((q, 6), (t, 8)))
    return tokens, frames, torch.rand(t, generator=generator, dtype=torch.float64).cumsum(dim=0)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_an_item_in_a_batch_is_the_item_alone(mixer: str, side: str, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=3))
    model = whole(replace(CONFIG, mixer=mixer, text_side=side))  # type: ignore[arg-type]
    b, most_words, most_frames = len(sizes), max(q for q, _ in sizes) + 1, max(t for _, t in sizes) + 2
    tokens, frames = (torch.full((b, n, d), torch.nan, dtype=torch.float64) for n, d in ((most_words, 6), (most_frames, 8)))
    times, durations = torch.zeros(b, most_frames, dtype=torch.float64), torch.zeros(b, dtype=torch.float64)
    text_mask, mask = torch.zeros(b, most_words, dtype=torch.bool), torch.zeros(b, most_frames, dtype=torch.bool)
    alone = []
    for number, (q, t) in enumerate(sizes):
        words, rows = (sorted(data.draw(st.permutations(range(most)))[:n]) for most, n in ((most_words, q), (most_frames, t)))
        one = item(q, t, number)
        tokens[number, words], frames[number, rows], times[number, rows] = one
        text_mask[number, words], mask[number, rows] = True, True
        durations[number] = one[2][-1] + 1
        real = [torch.ones(1, n, dtype=torch.bool) for n in (q, t)]
        alone.append((words, rows, model(one[0][None], real[0], one[1][None], one[2][None], real[1], durations[number : number + 1])))
    together = model(tokens, text_mask, frames, times, mask, durations)
    for number, (words, rows, one) in enumerate(alone):
        for name, value in together.items():
            own = value[number] if name in ("summary", "match", "answer") else value[number, words if name == "text" else rows]
            torch.testing.assert_close(own, one[name][0], rtol=0, atol=1e-12 if name in ("text", "video", "found") else 1e-6, msg=name)


def test_inexact_masks_are_what_they_are_called() -> None:
    tokens, frames, times = (part[None] for part in item(3, 5, 0))
    padded = torch.cat([tokens, torch.zeros(1, 4, 6, dtype=torch.float64)], dim=1)
    real, some = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[True] * 3 + [False] * 4])
    for exact in (True, False):
        torch.manual_seed(0)
        model = Interaction(replace(CONFIG, exact_masks=exact)).double()
        watched = model.watch(frames, times)
        difference = (model(tokens, real, watched).video - model(padded, some, watched).video).detach().abs().max()
        assert (float(difference) < 1e-12) == exact


def test_every_frame_sees_the_words_and_the_words_see_frames_where_the_mixer_looks_back() -> None:
    tokens, frames, times = (part[None] for part in item(3, 5, 0))
    mask = torch.ones(1, 3, dtype=torch.bool)
    for mixer, sees_back in (("mamba", False), ("dbm", True)):
        model = whole(replace(CONFIG, mixer=mixer)).interaction  # type: ignore[arg-type]
        watched = model.watch(frames, times)
        own, other_text = model(tokens, mask, watched), model(tokens + torch.eye(6, dtype=torch.float64)[:3], mask, watched)
        other_video = model(tokens, mask, model.watch(frames + torch.eye(8, dtype=torch.float64)[:5], times))
        assert float((own.video - other_text.video).detach().abs().amax(dim=-1).min()) > 1e-6
        assert (float((own.text - other_video.text).detach().abs().max()) > 1e-9) == sees_back


def test_a_text_without_words_is_refused() -> None:
    tokens, frames, times = (part[None] for part in item(3, 5, 0))
    with pytest.raises(InputError, match="at least one word"):
        model = whole().interaction
        model(tokens, torch.zeros(1, 3, dtype=torch.bool), model.watch(frames, times))


def test_words_of_another_width_are_refused() -> None:
    _, frames, times = (part[None] for part in item(3, 5, 0))
    with pytest.raises(InputError, match=r"\(1, q, 6\).*\(1, 3, 7\)"):
        model = whole().interaction
        model(torch.zeros(1, 3, 7), torch.ones(1, 3, dtype=torch.bool), model.watch(frames, times))


def test_a_video_that_was_watched_once_is_asked_about_as_if_it_had_been_watched_each_time() -> None:
    model = whole().interaction
    _, frames, times = (part[None] for part in item(3, 5, 0))
    tokens = torch.stack([item(3, 5, seed)[0] for seed in range(3)])
    mask = torch.ones(3, 3, dtype=torch.bool)
    once = model(tokens, mask, model.watch(frames, times).rows(torch.zeros(3, dtype=torch.int64)))
    for number in range(3):
        alone = model(tokens[number : number + 1], mask[:1], model.watch(frames, times))
        torch.testing.assert_close(once.video[number], alone.video[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(once.text[number], alone.text[0], rtol=0, atol=1e-12)


def test_gradients_of_a_video_that_is_asked_about_often_are_the_same_each_time() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        generator = torch.Generator().manual_seed(0)
        chosen, factors = torch.randint(0, 6, (40,), generator=generator), torch.randn(40, 60, 64, generator=generator)
        found = set()
        for _ in range(40):
            tokens = torch.ones(6, 60, 64, requires_grad=True)
            watched = Watched(tokens, tokens[..., None, :1], tokens[..., None, :2], torch.ones(6, 60, dtype=torch.bool))
            (watched.rows(chosen).tokens * factors).sum().backward()
            assert tokens.grad is not None
            found.add(tokens.grad.numpy().tobytes())
        assert len(found) == 1
    finally:
        torch.set_num_threads(threads)


def test_a_centre_is_the_middle_of_what_a_frame_stands_for() -> None:
    times, mask = torch.tensor([[0.0, 1.0, 9.0, 3.0]]), torch.tensor([[True, True, False, True]])
    assert stretch_centres(times, torch.tensor([5.0]), mask).tolist() == [[0.5, 2.0, 0.0, 4.0]]


def grounding(spans: list[tuple[float, float, float]], duration: float) -> Grounding:
    """Frames whose proposals are these (start, end, logit)."""
    starts, ends, logits = (torch.tensor(column, dtype=torch.float64)[None] for column in zip(*spans, strict=True))
    centres = (starts + ends) / 2
    offsets = torch.stack([centres - starts, ends - centres], dim=-1)
    return Grounding(logits, offsets, logits, centres, torch.ones_like(logits, dtype=torch.bool))


def test_spans_lie_within_the_video_best_first_and_near_doubles_are_left_out() -> None:
    found = best_spans(grounding([(-3, 4, 2), (0, 4.2, 1), (6, 12, 0), (5, 7, 3)], 10), torch.tensor([10.0]))[0]
    assert [span for span, _ in found] == [Span(5, 7), Span(0, 4), Span(6, 10)]
    assert [round(score, 3) for _, score in found] == [0.953, 0.881, 0.5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 30), st.floats(-5, 5)), min_size=1, max_size=12), st.floats(1, 60))
def test_chosen_spans_are_those_of_a_plain_loop(given_spans: list[tuple[float, float, float]], duration: float) -> None:
    proposals = [(start, start + seconds, logit) for start, seconds, logit in given_spans]
    ranked = sorted(range(len(proposals)), key=lambda n: -torch.tensor(proposals[n][2], dtype=torch.float64).sigmoid().item())
    kept: list[tuple[float, float]] = []
    for number in ranked:
        start, end = (min(max(0.0, value), duration) for value in proposals[number][:2])
        if end <= start:
            continue
        ious = [
            max(0.0, min(end, b) - max(start, a)) / (max(end - start + b - a - max(0.0, min(end, b) - max(start, a)), 1e-12))
            for a, b in kept
        ]
        if all(iou <= 0.7 for iou in ious):
            kept.append((start, end))
    found = best_spans(grounding(proposals, duration), torch.tensor([duration], dtype=torch.float64))[0]
    assert [(round(span.start, 6), round(span.end, 6)) for span, _ in found] == [(round(a, 6), round(b, 6)) for a, b in kept[:10]]


def test_one_pass_has_no_limit_of_length() -> None:
    model = whole().float()
    frames, times = torch.randn(1, 36_000, 8), torch.arange(36_000.0)[None]
    with torch.inference_mode():
        watched = model.interaction.watch(frames, times)
        fused = model.interaction(torch.randn(1, 4, 6), torch.ones(1, 4, dtype=torch.bool), watched)
        spans = best_spans(model.ground(fused, times, torch.tensor([36_000.0])), torch.tensor([36_000.0]))[0]
    assert 1 <= len(spans) <= 10
    assert all(0 <= span.start < span.end <= 36_000 for span, _ in spans)


@pytest.mark.parametrize("answers", [[], ["red", "red"]])
def test_answers_must_differ(answers: list[str]) -> None:
    with pytest.raises(InputError, match=f"got {len(answers)}"):
        ClosedAnswerHead(14, 4, answers)


def test_a_summary_reads_the_mean_word_the_mean_frame_and_what_was_found() -> None:
    generator = torch.Generator().manual_seed(3)
    text, video = torch.randn(1, 3, 4, generator=generator), torch.randn(1, 6, 4, generator=generator)
    mask = torch.tensor([[True, False, True, True, True, True]])
    video = video.masked_fill(~mask[..., None], 0.0)
    # Two slots and two tracks: the first slot finds the first track twice and the second once, all before what the second finds.
    found = torch.zeros(1, 6, 2, 2)
    found[0, [0, 3], 0, 0], found[0, 2, 0, 1], found[0, [4, 5], 1, 1] = 0.9, 0.8, 0.7
    fused = Fused(text, torch.ones(1, 3, dtype=torch.bool), video, mask, video, video, found, torch.zeros(1, 6, 2, 3))
    shares = torch.zeros(1, 3, 6)
    shares[0, 0, [2, 3]], shares[0, 1, 3] = torch.tensor([0.25, 0.75]), 1.0
    summary = Summary(4)(fused, Evidence(torch.zeros(1, 7, 2), torch.arange(7, 0, -1)[None] / 8, shares, torch.zeros(1, 3, 0, 0)))
    real = [0, 2, 3, 4, 5]
    means = [text[0].mean(dim=0), video[0, real].mean(dim=0), 0.25 * video[0, 2] + 0.75 * video[0, 3]]
    torch.testing.assert_close(summary[0, :12], torch.nn.functional.layer_norm(torch.cat(means), (12,)))
    torch.testing.assert_close(summary[0, 12:17], torch.arange(7, 2, -1) / 8)  # the likeliest moments
    torch.testing.assert_close(summary[0, 17:23], torch.tensor([0.9, 0.7, 0.9, 0.8, 0.0, 0.7]))  # over all tracks, then in each
    torch.testing.assert_close(summary[0, 23:31], torch.tensor([0.75 * 0.9, 0.25 * 0.8, 0, 0, 0.9, 0, 0, 0]))  # in the looks
    before = summary[0, 31:35].view(2, 2)
    assert before[0, 1] > 0.99
    assert before[1, 0] < 1e-6
    likely = [place / 8 for place in range(7, 0, -1)]
    counted = [sum(1 / (1 + math.exp(-20 * (one - level))) for one in likely) for level in (0.35, 0.5, 0.65)]
    assert summary[0, 35:].tolist() == pytest.approx(counted, abs=1e-4)


def test_the_looks_are_at_the_likeliest_moment_its_end_and_what_follows() -> None:
    # Of three moments after the likeliest the first is too unlikely to be what follows, and the last is the likelier.
    spans = [(10, 14, 4), (2, 5, 2), (15, 16, -4), (20, 23, -1), (30, 34, -0.5)]
    proposals = [(start, end, logit) for start, end, logit in spans for _ in range(4)]
    made = grounding(proposals, 40)
    made = replace(made, centres=torch.tensor([[start + (n + 0.5) * (end - start) / 4 for start, end, _ in spans for n in range(4)]]))
    starts, ends = (torch.tensor([[span[part] for span in spans for _ in range(4)]], dtype=torch.float64) for part in (0, 1))
    made = replace(made, offsets=torch.stack([made.centres - starts, ends - made.centres], dim=-1))
    looked = evidence_of(made, torch.tensor([40.0]))
    assert looked.bounds[0, :5].tolist() == [[10, 14], [2, 5], [30, 34], [20, 23], [15, 16]]
    torch.testing.assert_close(looked.probability[0, :6], torch.tensor([4, 2, -0.5, -1, -4, -torch.inf], dtype=torch.float64).sigmoid())
    assert looked.shares.sum(dim=2)[0].tolist() == pytest.approx([1, 1, 1])
    best, late, following = looked.shares[0].tolist()
    assert best[:4] == pytest.approx([0.25] * 4)
    assert late[:4] == sorted(late[:4])
    assert late[3] > 0.7
    assert following[12:16] == pytest.approx([0.25] * 4)


def test_things_are_the_tracks_of_a_look_with_what_finds_them_and_what_they_do() -> None:
    torch.manual_seed(4)
    made = Interaction(replace(CONFIG, acts=2))
    watched = made.watch(torch.randn(1, 5, 8), torch.arange(5.0)[None])
    fused = made(torch.randn(1, 3, 6), torch.ones(1, 3, dtype=torch.bool), watched)
    shares = torch.tensor([[[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1.0]]])
    things = made.things(fused, shares)
    assert things.shape == (1, 2, 3, made.config.thing_size)
    assert made.acts is not None
    for look, rows in enumerate(([1, 2], [4])):
        held = watched.tracks[0, rows].mean(dim=0)
        parts = [held, fused.found[0, rows].mean(dim=0).T, made.acts(held).sigmoid()]
        torch.testing.assert_close(things[0, look], torch.cat(parts, dim=1))
    with pytest.raises(InputError, match="acts must be at least 0, got -1"):
        replace(CONFIG, acts=-1)


def test_nothing_follows_the_last_moment() -> None:
    looked = evidence_of(grounding([(1, 4, 0), (6, 9, 1)], 10), torch.tensor([10.0]))
    assert looked.shares[0].sum(dim=1).tolist() == pytest.approx([1, 1, 0])


def test_options_stand_by_when_they_are_shown_and_how_surely() -> None:
    bounds = torch.tensor([[[8.0, 9], [0, 1]], [[2, 3], [0, 0]], [[5, 6], [0, 0]], [[7, 8], [0, 0]]])
    alone = Evidence(bounds, torch.tensor([[0.9, 0.1], [0.5, 0], [0.4, 0], [0.3, 0]]), torch.zeros(4, 3, 1), torch.zeros(4, 3, 0, 0))
    found = standing(alone, torch.tensor([4, 4, 4, 6]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.9], [1.0, 0.5], [0.0, 0.4], [0.0, 0.3]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_precedence_is_that_of_a_draw_of_two_rows(t: int, n: int, seed: int) -> None:
    curves = torch.rand(1, t, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    powers = (curves[0] ** 8).tolist()
    for one in range(n):
        for other in range(n):
            sums = [sum(row[each] for row in powers) + 1e-4 for each in (one, other)]
            expected = sum(powers[a][one] * powers[b][other] for a in range(t) for b in range(a + 1, t)) / (sums[0] * sums[1])
            assert float(precedence(curves)[0, one, other]) == pytest.approx(expected, abs=1e-9)


def test_a_lookup_brings_of_each_track_what_a_slot_asks_as_far_as_it_is_what_the_slot_looks_for() -> None:
    torch.manual_seed(2)
    lookup, tracks, text = Lookup(CONFIG), torch.randn(2, 4, 3, 5), torch.randn(2, 4, 12)
    mask = torch.tensor([[True, True, True, False], [False, True, False, True]])
    with torch.no_grad():
        joined, found = lookup(text, mask, lookup.see(tracks))
        for item in range(2):
            words = text[item, mask[item]]
            asked = [lookup.ask((words @ query).softmax(dim=0) @ words).split([5, 5, 1]) for query in lookup.slots.queries]
            for row in range(4):
                seen = [lookup.see(track).split([5, 5]) for track in tracks[item, row]]
                parts = []
                for slot, (query, factor, bias) in enumerate(asked):
                    is_it = [float((key @ query / 5**0.5 + bias).sigmoid()) for key, _ in seen]
                    assert found[item, row, slot].tolist() == pytest.approx(is_it, abs=1e-5)
                    brought = sum(share * value for share, (_, value) in zip(is_it, seen, strict=True))
                    parts.append(torch.cat([brought, brought * factor, torch.tensor([sum(is_it)])]))
                torch.testing.assert_close(joined[item, row], lookup.join(torch.cat(parts)), rtol=1e-4, atol=1e-5)


def test_every_track_is_followed_by_the_same_stack_and_by_itself() -> None:
    torch.manual_seed(1)
    tracks, frames = Tracks(CONFIG).double(), torch.randn(2, 6, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    assert tracks.stack is not None
    together, parts = tracks(frames, mask), tracks.part(frames).unflatten(-1, (3, 5))
    for item, t in ((0, 6), (1, 4)):
        for number in range(3):
            alone = tracks.stack(parts[item, :t, number][None], None)[0]
            torch.testing.assert_close(together[item, :t, number], alone, rtol=0, atol=1e-12)


def test_a_pairing_multiplies_what_each_slot_read_into_every_frame() -> None:
    torch.manual_seed(2)
    pairing = Pairing(replace(CONFIG, slots=3))
    text, frames = torch.randn(2, 4, 12), torch.randn(2, 5, 12)
    mask = torch.tensor([[True, True, True, False], [False, True, False, True]])
    with torch.no_grad():
        found = pairing(text, mask, frames)
        for item in range(2):
            words = text[item, mask[item]]
            answers = [pairing.ask((words @ query).softmax(dim=0) @ words) for query in pairing.slots.queries]
            for row in range(5):
                seen = pairing.see(frames[item, row]).view(3, 12)
                product = torch.cat([part * answer for part, answer in zip(seen, answers, strict=True)])
                torch.testing.assert_close(found[item, row], pairing.join(product), rtol=1e-4, atol=1e-5)


def test_without_slots_words_and_frames_meet_in_the_mixer_alone() -> None:
    plain, paired = (whole(replace(CONFIG, slots=slots)) for slots in (0, 2))
    for name in ("tracks", "before", "after"):
        assert getattr(plain.interaction, name) is None
        assert getattr(paired.interaction, name) is not None
    tokens, frames, times = (part[None] for part in item(3, 5, 0))
    real = [torch.ones(1, n, dtype=torch.bool) for n in (3, 5)]
    assert plain(tokens, real[0], frames, times, real[1], times[:, -1] + 1)["summary"].shape == (1, 3 * 12 + 5 + 3)
    for name, least in (("slots", 0), ("track_layers", 0), ("text_layers", 0), ("tracks", 1), ("track_width", 1)):
        with pytest.raises(InputError, match=f"{name} must be at least {least}, got -1"):
            replace(CONFIG, **{name: -1})
