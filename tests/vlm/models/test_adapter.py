"""The temporal adapter: at first mean pooling, exact under padding, and then no longer blind to order."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig, TemporalAdapter, TextAdapter, TimeEmbedding

MIXERS = ("mamba", "vim", "dbm", "attention")
DIM = 12
M = TypeVar("M", bound=nn.Module)


def adapter(mixer: str, *, learnt: bool = True) -> TemporalAdapter:
    torch.manual_seed(0)
    made = TemporalAdapter(AdapterConfig(dim=DIM, mixer=mixer, d_state=4)).double()  # type: ignore[arg-type]
    return opened(made) if learnt else made


def opened(module: M) -> M:
    """With gates that are no longer zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.7)
    return module


def video(t: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = F.normalize(torch.randn(1, t, DIM, generator=generator, dtype=torch.float64), dim=-1)
    return frames, torch.rand(1, t, generator=generator, dtype=torch.float64).cumsum(dim=1)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_new_adapter_is_mean_pooling(mixer: str) -> None:
    frames, times = video(9)
    made = adapter(mixer, learnt=False)(frames, times)
    assert torch.equal(made.frames, frames)
    torch.testing.assert_close(made.pooled, F.normalize(frames.mean(dim=1), dim=-1), rtol=0, atol=1e-15)


def test_an_adapter_whose_gates_begin_open_is_not() -> None:
    frames, times = video(9)
    made = TemporalAdapter(AdapterConfig(dim=DIM, d_state=4, first_gate=0.5)).double()
    assert all(float(layer.gate.detach()) == 0.5 for layer in made.layers)  # type: ignore[union-attr]
    assert not torch.allclose(made(frames, times).pooled, F.normalize(frames.mean(dim=1), dim=-1), atol=1e-3)
    text = TextAdapter(AdapterConfig(dim=DIM, d_state=4, first_gate=0.5))
    assert float(text.gate.detach()) == 0.5


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_new_adapter_can_learn(mixer: str) -> None:
    made = adapter(mixer, learnt=False)
    frames, times = video(9)
    made(frames, times).pooled[0, 0].backward()
    assert all(float(layer.gate.grad.abs()) > 0 for layer in made.layers)  # type: ignore[union-attr]


@pytest.mark.parametrize("mixer", MIXERS)
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_an_item_in_a_batch_is_the_item_alone(mixer: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    made = adapter(mixer)
    t = max(lengths) + 2
    frames, times = torch.full((len(lengths), t, DIM), torch.nan, dtype=torch.float64), torch.zeros(len(lengths), t, dtype=torch.float64)
    mask = torch.zeros(len(lengths), t, dtype=torch.bool)
    alone = []
    for item, length in enumerate(lengths):
        places = sorted(data.draw(st.permutations(range(t)))[:length])  # holes anywhere
        one = video(length, seed=item)
        frames[item, places], times[item, places], mask[item, places] = one[0][0], one[1][0], True
        alone.append((places, made(*one)))
    together = made(frames, times, mask)
    for item, (places, one) in enumerate(alone):
        torch.testing.assert_close(together.frames[item, places], one.frames[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.pooled[item], one.pooled[0], rtol=0, atol=1e-12)
    assert torch.equal(together.frames[~mask], torch.zeros_like(together.frames[~mask]))


@pytest.mark.parametrize("mixer", MIXERS)
def test_an_adapter_that_has_learnt_tells_a_video_from_its_reverse(mixer: str) -> None:
    frames, times = video(9)
    made = adapter(mixer)
    there, back = made(frames, times).pooled, made(frames.flip(1), times).pooled
    assert float((there - back).detach().abs().max()) > 1e-3


def test_time_is_seconds_and_not_the_number_of_a_row() -> None:
    frames, times = video(9)
    made = adapter("dbm")
    later = made(frames, times * 3).pooled
    assert float((made(frames, times).pooled - later).detach().abs().max()) > 1e-4


def test_half_a_second_is_told_after_ten_hours_as_at_the_start() -> None:
    embedding = TimeEmbedding(8)
    steps = [embedding(torch.tensor([[start, start + 0.5]], dtype=torch.float64)).diff(dim=1).norm().item() for start in (0.0, 36_000.0)]
    assert steps[1] > 0.3 * steps[0] > 0


def test_adapters_without_layers_learn_nothing_and_change_nothing() -> None:
    config = AdapterConfig(dim=DIM, num_layers=0, text_layers=0)
    frames, times = video(4)
    pooled, words = torch.randn(1, DIM), torch.ones(1, 2, dtype=torch.bool)
    made, text = TemporalAdapter(config), TextAdapter(config)
    assert [*made.parameters(), *text.parameters()] == []
    torch.testing.assert_close(made(frames, times).pooled, F.normalize(frames.mean(dim=1), dim=-1))
    torch.testing.assert_close(text(pooled, torch.randn(1, 2, DIM), words), F.normalize(pooled, dim=-1))


def test_gradients_reach_every_parameter() -> None:
    made = adapter("vim")
    frames, times = video(5)
    made(frames, times).pooled.sum().backward()
    assert [name for name, parameter in made.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("frames", "times", "mask", "words"),
    [
        (torch.zeros(1, 0, DIM), torch.zeros(1, 0), None, "at least one frame"),
        (torch.zeros(2, 3, DIM), torch.zeros(2, 3), torch.tensor([[True, True, True], [False, False, False]]), "all of item 1 are masked"),
        (torch.tensor([0.0, torch.nan]).repeat(1, 3, DIM // 2), torch.zeros(1, 3), None, "row 0 of item 0"),
        (torch.zeros(1, 3, DIM + 1), torch.zeros(1, 3), None, rf"\(b, t, {DIM}\)"),
        (torch.zeros(1, 3, DIM), torch.zeros(1, 2), None, r"times \(b, t\)"),
        (torch.zeros(1, 3, DIM), torch.zeros(1, 3), torch.ones(1, 3), "mask must be bool"),
    ],
)
def test_what_is_no_video_is_refused(frames: Tensor, times: Tensor, mask: Tensor | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        adapter("dbm").float()(frames, times, mask)


def test_one_frame_is_a_video() -> None:
    frames, times = video(1)
    assert torch.isfinite(adapter("dbm")(frames, times).pooled).all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_new_text_adapter_changes_nothing_and_one_that_has_learnt_sees_the_words(mixer: str) -> None:
    torch.manual_seed(0)
    made = TextAdapter(AdapterConfig(dim=DIM, mixer=mixer, d_state=4)).double()  # type: ignore[arg-type]
    pooled, tokens = torch.randn(2, DIM, dtype=torch.float64), torch.randn(2, 5, DIM, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    torch.testing.assert_close(made(pooled, tokens, mask), F.normalize(pooled, dim=-1), rtol=0, atol=1e-15)
    opened(made)
    found = made(pooled, tokens, mask)
    torch.testing.assert_close(found[1:], made(pooled[1:], tokens[1:, :3], mask[1:, :3]), rtol=0, atol=1e-12)
    assert float((found - made(pooled, tokens.flip(1), mask.flip(1))).detach().abs().max()) > 1e-4


def test_texts_and_words_that_do_not_agree_are_refused() -> None:
    made = TextAdapter(AdapterConfig(dim=DIM))
    with pytest.raises(InputError, match=r"\(3, 12\)"):
        made(torch.zeros(3, DIM), torch.zeros(2, 4, DIM), torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"num_layers": -1}])
def test_a_config_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        AdapterConfig(**({"dim": 4} | wrong))  # type: ignore[arg-type]
