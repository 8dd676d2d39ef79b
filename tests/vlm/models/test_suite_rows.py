from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.suite.rows import (
    RowConv,
    Rows,
    Standardised,
    WithSpread,
    every_second,
    instance_normed,
    packed,
    pooled,
    spread_near,
    stretch_middles,
)

LENGTHS = (5, 1, 8, 2)


def rows(width: int = 3, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Rows:
    values = torch.randn(sum(lengths), width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Rows.of(values, torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32))


def items(some: Rows) -> list[Tensor]:
    return list(some.values.split(some.lengths.tolist()))


@pytest.mark.parametrize("dilation", [1, 2, 4, 16])
def test_a_convolution_is_torchs_own_of_each_item_alone(dilation: int):
    some, conv = rows(), RowConv(3, 4, dilation=dilation).double()
    own = nn.Conv1d(3, 4, 3, padding=dilation, dilation=dilation).double()
    weight = conv.linear.weight.detach().view(4, 3, 3)  # (outputs, place, inputs)
    with torch.no_grad():
        own.weight.copy_(weight.transpose(1, 2))
        own.bias.copy_(conv.linear.bias)
    for found, item in zip(items(conv(some)), items(some), strict=True):
        torch.testing.assert_close(found, own(item.t()[None])[0].t())


def test_pooling_is_torchs_own_of_each_item_alone():
    some = rows()
    halved = pooled(some)
    assert halved.lengths.tolist() == [3, 1, 4, 1]
    for found, item in zip(items(halved), items(some), strict=True):
        torch.testing.assert_close(found, nn.functional.max_pool1d(item.t()[None], 3, 2, 1)[0].t())
    again = pooled(halved)
    torch.testing.assert_close(again.place, Rows.of(again.values, again.bounds).place)
    torch.testing.assert_close(again.item, Rows.of(again.values, again.bounds).item)


def test_normalising_is_torchs_own_of_each_item_alone():
    some = rows(lengths=(5, 8, 2))
    for found, item in zip(items(instance_normed(some)), items(some), strict=True):
        torch.testing.assert_close(found, nn.InstanceNorm1d(3)(item.t()[None])[0].t())


def test_a_single_row_is_normalised_to_zeros():
    assert instance_normed(rows(lengths=(1,))).values.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("reach", [1, 3, 20])
def test_the_spread_near_a_row_is_that_of_the_rows_of_its_item_around_it(reach: int):
    some = rows()
    for found, item in zip(items(some.having(spread_near(some, reach))), items(some), strict=True):
        expected = [item[max(0, row - reach) : row + reach + 1].std(dim=0, correction=0) for row in range(len(item))]
        torch.testing.assert_close(found, torch.stack(expected))


def test_the_spread_of_a_channel_far_from_zero_is_not_lost():
    some = Rows.side_by_side([torch.tensor([[1e4], [1e4 + 1], [1e4 + 2]])])
    assert spread_near(some, 1)[1].item() == pytest.approx((2 / 3) ** 0.5, rel=1e-3)


def test_vectors_and_their_spread_come_standardised():
    enter, videos = WithSpread(3, 2), items(rows(lengths=(30, 20)))
    enter.double().learn(videos)
    found = enter(Rows.side_by_side(videos)).values
    assert found.shape == (50, 6) == (50, enter.dim)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(dim=0), torch.ones(6, dtype=torch.float64), atol=1e-6, rtol=0)
    alone = WithSpread(3, 0)
    assert alone.dim == 3
    torch.testing.assert_close(alone(rows()).values, rows().values)


def test_every_second_row_of_each_item_stays():
    some = rows()
    for found, item in zip(items(every_second(some)), items(some), strict=True):
        torch.testing.assert_close(found, item[::2])


def test_what_was_learnt_of_vectors_takes_out_their_mean_and_spread():
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 5.0, 0.1, 2.0]) + 3
    standardise = Standardised(4)
    torch.testing.assert_close(standardise(vectors), vectors)
    standardise.learn(vectors)
    torch.testing.assert_close(standardise(vectors).mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardise(vectors).std(dim=0), torch.ones(4))
    with pytest.raises(InputError, match="at least 2 vectors, got 1"):
        standardise.learn(vectors[:1])


def test_a_row_stands_in_the_middle_of_its_stretch():
    assert stretch_middles([0.0, 0.5, 2.0], 3.0).tolist() == [0.25, 1.25, 2.5]


def test_packing_takes_real_rows_wherever_they_are_and_puts_them_back():
    frames = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    some, packing = packed(frames, mask, 2)
    assert some.values.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert packing.unpack(some.values[None]).tolist() == (frames * mask[..., None]).tolist()


@pytest.mark.parametrize(
    ("frames", "mask", "message"),
    [
        (torch.zeros(1, 3, 5), None, r"shape \(b, t, 2\).*got \(1, 3, 5\)"),
        (torch.zeros(1, 0, 2), None, "at least one row"),
        (torch.zeros(1, 3, 2), torch.ones(1, 3), "mask must be bool"),
        (torch.zeros(2, 3, 2), torch.tensor([[True] * 3, [False] * 3]), "item 1 has no row"),
        (torch.full((1, 3, 2), torch.nan), None, "NaN or infinity in item 0"),
    ],
)
def test_frames_that_are_none_are_refused(frames: Tensor, mask: Tensor | None, message: str):
    with pytest.raises(InputError, match=message):
        packed(frames, mask, 2)


def test_a_dilation_of_zero_is_refused():
    with pytest.raises(InputError, match="dilation must be at least 1 row, got 0"):
        RowConv(2, 2, dilation=0)
