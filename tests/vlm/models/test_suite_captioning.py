from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.vlm.models.suite_cases import DIM, MIXERS, frames
from vlm.errors import EncoderMismatch, InputError
from vlm.models.suite.captioning import CaptioningConfig, EventCaptioner
from vlm.models.suite.deformable import DeformableAttention
from vlm.models.suite.events import Places
from vlm.models.suite.levels import Levels
from vlm.models.suite.rows import Rows
from vlm.models.suite.sentences import paragraph_text, rows_of_seconds, seconds_of_rows, tell_events, tell_spans
from vlm.types import Features, Span

VOCABULARY = ("[pad]", "[unknown]", "[start]", "[end]", "a", "dog", "runs", "jumps", "medium", "-", "sized", ".")


def captioner(**changes: Any) -> EventCaptioner:
    torch.manual_seed(0)
    wanted = {"width": 16, "num_levels": 3, "encoder_layers": 1, "d_state": 4, "num_heads": 2, "num_points": 2, "most_words": 6} | changes
    model = EventCaptioner(CaptioningConfig(encoder="toy", fingerprint="abc", dim=DIM, vocabulary=VOCABULARY, **wanted))
    model.teller.learn_usual(torch.tensor([0, 0, 0, *[9] * (len(VOCABULARY) - 3)]))
    return model.eval()


def learnt(model: EventCaptioner) -> EventCaptioner:
    """The model with other numbers where it begins with zeros, so that every part has a say."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def levels_of(*items: Tensor, num_levels: int = 3) -> tuple[Levels, list[list[np.ndarray]]]:
    """Levels whose rows are every second one of the level before; and for each item its levels, as plain arrays."""
    plain = [[item[:: 2**level].numpy() for level in range(num_levels)] for item in items]
    made = []
    for level in range(num_levels):
        rows = [torch.from_numpy(np.ascontiguousarray(item[level])) for item in plain]
        bounds = torch.tensor([0, *np.cumsum([len(one) for one in rows])], dtype=torch.int32)
        made.append(Rows.of(torch.cat(rows), bounds))
    return Levels.of(made), plain


def value_at(rows: np.ndarray, place: float, level: int) -> np.ndarray:
    """Linear between the rows of a level, whose row k stands at ``k * 2^level + 0.5``."""
    stands = np.arange(len(rows)) * 2.0**level + 0.5
    return np.array([np.interp(place, stands, channel) for channel in rows.T])


def test_values_between_rows_are_those_of_a_plain_interpolation():
    held, plain = levels_of(*frames(9, 4))
    places = torch.tensor([[0.0, 0.5, 2.25, 8.9, 30.0], [-3.0, 1.0, 3.5, 3.9, 2.0]], dtype=torch.float64)
    for level in range(3):
        found = held.at(torch.tensor([0, 1]), places, level)
        for item in range(2):
            for k, place in enumerate(places[item]):
                np.testing.assert_allclose(found[item, k].numpy(), value_at(plain[item][level], float(place), level), atol=1e-12)
    assert held.middles.tolist() == [*np.arange(9) + 0.5, 0.5, 2.5, 4.5, 6.5, 8.5, 0.5, 4.5, 8.5, *np.arange(4) + 0.5, 0.5, 2.5, 0.5]


def test_deformable_attention_is_a_loop_over_heads_levels_and_points():
    torch.manual_seed(0)
    heads, levels, points, width = 2, 3, 2, DIM
    attention = DeformableAttention(width, num_heads=heads, num_levels=levels, num_points=points).double()
    with torch.no_grad():
        for aim in (attention.offsets, attention.weights):
            aim.slope.normal_()
    held, plain = levels_of(*frames(9, 4))
    tokens, item = frames(5)[0], torch.tensor([0, 0, 0, 1, 1])
    centres, reach = torch.tensor([0.0, 4.0, 9.0, 1.5, 4.0]).double(), torch.tensor([1.0, 3.0, 5.0, 2.0, 0.5]).double()
    found = attention(tokens, item, centres, reach, held)
    value, bias = attention.value.weight.detach().numpy(), attention.value.bias.detach().numpy()
    for n in range(5):
        offsets = attention.offsets(tokens[n]).view(heads, levels, points).detach().numpy()
        weights = attention.weights(tokens[n]).view(heads, -1).softmax(dim=1).view(heads, levels, points).detach().numpy()
        taken = np.zeros(width)
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            for level in range(levels):
                for point in range(points):
                    place = float(centres[n]) + offsets[head, level, point] * float(reach[n])
                    row = value_at(plain[int(item[n])][level], place, level)
                    taken[part] += weights[head, level, point] * (value @ row + bias)[part]
        expected = attention.leave(torch.from_numpy(taken))
        torch.testing.assert_close(found[n], expected, rtol=0, atol=1e-10)


def test_points_are_spread_evenly_over_the_reach_before_anything_is_learnt():
    attention = DeformableAttention(DIM, num_heads=1, num_levels=1, num_points=4)
    assert attention.offsets(torch.randn(1, DIM))[0].tolist() == [-0.75, -0.25, 0.25, 0.75]


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("segments", ["found", "given"])
def test_an_item_of_a_batch_gives_what_it_alone_gives(mixer: str, segments: str):
    model = learnt(captioner(mixer=mixer, segments=segments)).double()
    items = frames(11, 6, 1)
    stretches = [torch.tensor([[0.0, 4.0], [3.0, 11.0]]), torch.tensor([[1.0, 5.0]]), torch.zeros(0, 2)]
    batch, mask = torch.full((3, 13, DIM), torch.nan, dtype=torch.float64), torch.zeros(3, 13, dtype=torch.bool)
    for number, item in enumerate(items):
        at = torch.arange(len(item)) + (torch.arange(len(item)) >= 4) * 2  # a gap after the fourth row
        batch[number, at], mask[number, at] = item, True
    given = Places.of(torch.cat(stretches), torch.tensor([2, 1, 0])) if segments == "given" else None
    together = model(batch, mask, given=given)
    for number, item in enumerate(items):
        own = Places.of(stretches[number], torch.tensor([len(stretches[number])])) if segments == "given" else None
        alone = model(item[None], given=own)
        is_own = together.item == number
        torch.testing.assert_close(together.queries[is_own], alone.queries, rtol=0, atol=1e-12)
        torch.testing.assert_close(together.held.values[together.held.item == number], alone.held.values, rtol=0, atol=1e-12)
        for one, other in zip(together.proposed, alone.proposed, strict=True):
            torch.testing.assert_close(one.logits[is_own], other.logits, rtol=0, atol=1e-12)
            torch.testing.assert_close(one.places.stretches[is_own], other.places.stretches, rtol=0, atol=1e-5)
        if alone.expected is not None:
            torch.testing.assert_close(together.expected[number], alone.expected[0], rtol=0, atol=1e-12)


def test_a_query_stands_every_few_rows_of_each_item():
    model = captioner(query_rows=4, first_rows=6.0)
    seen = model(frames(9, dtype=torch.float32)[0][None])
    assert seen.item.tolist() == [0, 0, 0]
    # Nothing is learnt yet: the layers propose where the queries stand.
    assert seen.proposed[-1].places.stretches.tolist() == [[-1.0, 5.0], [3.0, 9.0], [7.0, 13.0]]


def test_what_is_said_word_by_word_is_what_the_whole_sentence_gives():
    model = captioner()
    rows, queries = torch.randn(3, 4, 16), torch.randn(3, 16)
    tokens, probability = model.teller.tell(rows, queries, most_tokens=6)
    logits = model.teller(rows, queries, tokens)
    logits[:, 0, model.teller.end] = -torch.inf
    chances = logits.softmax(dim=2)
    for n in range(3):
        said = tokens[n].tolist()
        length = said.index(model.teller.end) + 1 if model.teller.end in said else len(said)
        assert said[:length] == chances[n, :length].argmax(dim=1).tolist()
        expected = np.prod([float(chances[n, k, said[k]].detach()) for k in range(length)])
        assert float(probability[n]) == pytest.approx(expected, rel=1e-4)


def test_words_behind_change_nothing_before():
    model = captioner()
    rows, queries, tokens = torch.randn(2, 4, 16), torch.randn(2, 16), torch.tensor([[4, 5, 6, 3], [5, 7, 3, 3]])
    other = tokens.clone()
    other[:, 2:] = 9
    torch.testing.assert_close(model.teller(rows, queries, tokens)[:, :3], model.teller(rows, queries, other)[:, :3], rtol=0, atol=0)


def features(length: int, end: float | None = None) -> Features:
    return Features(frames(length, dtype=torch.float32)[0].numpy(), np.arange(length) / 2, length / 2 if end is None else end)


def test_events_come_in_order_inside_the_video_and_as_many_as_are_expected():
    model = learnt(captioner())
    with torch.no_grad():
        model.decoder.count.bias.fill_(0.9)  # type: ignore[union-attr]
    video = features(30, end=14.8)
    told = tell_events(model, video)
    with torch.no_grad():
        expected = round(float(model(torch.from_numpy(video.vectors)[None]).expected))
    assert 0 < len(told) <= expected
    starts = [event.span.start for event in told]
    assert starts == sorted(starts)
    assert all(0 <= event.span.start < event.span.end <= 14.8 for event in told)
    assert all(0 <= event.score <= 1 and 0 <= event.probability <= 1 for event in told)
    fewer = tell_events(model, video, most=2)
    assert [event.score for event in fewer] == [event.score for event in told if event.score >= min(one.score for one in fewer)]


def test_given_stretches_are_told_in_their_order():
    model = learnt(captioner(segments="given"))
    spans = [Span(6.0, 9.0), Span(0.0, 3.0), Span(5.0, 40.0)]
    told = tell_spans(model, features(30), spans)
    assert [event.span for event in told] == spans
    turned = tell_spans(model, features(30), spans[::-1])
    assert [event.sentence for event in turned[::-1]] == [event.sentence for event in told]
    assert tell_spans(model, features(30), []) == []
    with pytest.raises(InputError, match="must begin inside the video, which ends at 15 s, got 15 to 16 s"):
        tell_spans(model, features(30), [Span(15.0, 16.0)])


def test_a_model_says_whether_it_needs_stretches():
    with pytest.raises(InputError, match="tells of stretches that are given"):
        tell_events(captioner(segments="given"), features(8))
    with pytest.raises(InputError, match="finds its stretches and takes none"):
        tell_spans(captioner(), features(8), [Span(0, 1)])


def test_who_sees_nothing_says_the_same_of_all_videos_of_a_length():
    model = learnt(captioner(sight="none"))
    one, other = frames(12, 12, dtype=torch.float32)
    torch.testing.assert_close(model(one[None]).queries, model(other[None]).queries, rtol=0, atol=0)


def test_seconds_and_rows_are_one_place_in_two_measures():
    uneven = Features(np.zeros((4, 2), np.float32), np.array([0.0, 0.5, 2.0, 2.5]), 2.7)
    assert rows_of_seconds(np.array([0.0, 0.25, 1.25, 2.6, 9.0]), uneven).tolist() == pytest.approx([0.0, 0.5, 1.5, 3.5, 4.0])
    places = np.array([0.0, 0.3, 1.7, 3.9])
    np.testing.assert_allclose(rows_of_seconds(seconds_of_rows(places, uneven), uneven), places)


def test_a_paragraph_has_capitals_and_full_stops():
    assert paragraph_text(["a dog runs", "Then it jumps! ", ""]) == "A dog runs. Then it jumps!"


def test_a_video_without_rows_is_refused():
    with pytest.raises(InputError, match="at least one row, got none"):
        tell_events(captioner(), Features(np.zeros((0, DIM), np.float32), np.zeros(0), 1.0))


def test_a_folder_gives_the_model_back_and_its_card_tells_what_it_is(tmp_path: Path):
    model = learnt(captioner(mixer="vim"))
    folder = model.save_pretrained(tmp_path / "model")
    again = EventCaptioner.from_pretrained(folder)
    assert again.config == model.config
    assert tell_events(again, features(20)) == tell_events(model, features(20))
    assert "finds the events of a video and tells each in a sentence of 12 words" in (folder / "README.md").read_text()
    blind = captioner(segments="given", sight="none").save_pretrained(tmp_path / "blind")
    assert "needs stretches of a video" in (card := (blind / "README.md").read_text())
    assert "sees no frames: a baseline" in card


class Other:
    name, fingerprint, dim = "other", "xyz", DIM


def test_another_encoder_is_refused_with_both_names():
    with pytest.raises(EncoderMismatch, match=r"'toy' \(abc\).*'other' \(xyz\)"):
        captioner().check_encoder(Other())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": "vin"}, "mixer must be one of .*did you mean 'vim'"),
        ({"segments": "find"}, "segments must be one of .*did you mean 'found'"),
        ({"sight": "blind"}, "sight must be one of"),
        ({"query_rows": 0}, "query_rows must be at least 1, got 0"),
        ({"first_rows": 0.0}, r"first_rows must be positive, got 0\.0"),
        ({"num_heads": 3}, "multiple of num_heads, got .*3"),
    ],
)
def test_a_config_that_breaks_a_rule_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        captioner(**changes)
