from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vlm.models.suite_cases import DIM, MIXERS, frames, segmenter
from vlm.errors import InputError
from vlm.models.suite.labels import label_video, row_probabilities, stretches
from vlm.models.suite.matching import matched
from vlm.models.suite.segmentation import ASMamba
from vlm.ssm.stack import count_parameters
from vlm.types import Features, Span


@pytest.mark.parametrize("num_decoders", [0, 2])
@pytest.mark.parametrize("mixer", MIXERS)
def test_an_item_of_a_batch_gives_what_it_gives_alone_with_gaps_in_the_mask(mixer: str, num_decoders: int):
    model = segmenter(mixer=mixer, num_decoders=num_decoders).double()
    items = frames(9, 1, 14)
    batch, mask = torch.full((3, 20, DIM), torch.nan, dtype=torch.float64), torch.zeros(3, 20, dtype=torch.bool)
    for number, item in enumerate(items):
        places = torch.randperm(20, generator=torch.Generator().manual_seed(number))[: len(item)].sort().values
        batch[number, places], mask[number, places] = item, True
    together = model(batch, mask)
    assert len(together) == 1 + num_decoders
    for number, item in enumerate(items):
        for stage, alone in zip(together, model(item[None]), strict=True):
            torch.testing.assert_close(stage[number, mask[number]], alone[0], rtol=0, atol=1e-12)
            assert not stage[number, ~mask[number]].any()


def test_a_decoder_looks_at_the_labels_of_the_stage_before():
    model, x = segmenter(num_decoders=1), frames(12, dtype=torch.float32)[0][None]
    before = model(x)
    with torch.no_grad():
        model.leave.bias += torch.tensor([9.0, 0.0, 0.0])
    after = model(x)
    assert not torch.equal(before[1], after[1])
    # A constant of the first stage's labels alone, and not of what its rows hold, was changed.
    torch.testing.assert_close(after[0] - before[0], torch.tensor([9.0, 0.0, 0.0]).expand_as(before[0]))


def test_training_hides_whole_channels_of_a_video_and_use_hides_none():
    model = segmenter(channel_dropout=0.5)
    seen = []
    model.enter.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.ones(2, 5, DIM)
    model(x)
    model.train()(x)
    assert bool((seen[0] == 1).all())
    for item in seen[1].split(5):
        assert bool((item == item[0]).all())
    assert set(seen[1].unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("length", [1, 2, 7, 3000])
def test_stretches_meet_and_cover_a_video_of_any_length(length: int):
    features = Features(frames(length, dtype=torch.float32)[0].numpy(), np.arange(length) / 2, length / 2)
    found = label_video(segmenter(), features)
    assert (found[0].span.start, found[-1].span.end) == (0.0, length / 2)
    assert all(one.span.end == other.span.start and one.label != other.label for one, other in itertools.pairwise(found))


def test_stretches_are_runs_with_the_mean_of_what_their_rows_say():
    features = Features(np.zeros((3, DIM), np.float32), np.array([0.2, 1.0, 1.5]), 4.0)
    found = stretches(np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]), features, ("a", "b"))
    assert [(one.label, one.span, one.score) for one in found] == [
        ("b", Span(0.2, 1.5), pytest.approx(0.7)),
        ("a", Span(1.5, 4.0), pytest.approx(0.9)),
    ]


def test_probabilities_sum_to_one_and_no_rows_are_refused():
    features = Features(frames(4, dtype=torch.float32)[0].numpy(), np.arange(4) / 2, 2.0)
    np.testing.assert_allclose(row_probabilities(segmenter(), features).sum(axis=1), 1.0)
    with pytest.raises(InputError, match="at least one row, got none"):
        label_video(segmenter(), Features(np.zeros((0, DIM), np.float32), np.zeros(0), 1.0))


def test_a_folder_gives_the_model_back(tmp_path: Path):
    model = segmenter(mixer="mamba", num_decoders=1)
    again = ASMamba.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert again.config == model.config
    x = frames(9, dtype=torch.float32)[0][None]
    torch.testing.assert_close(again(x)[-1], model(x)[-1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": "dmb"}, "did you mean 'dbm'"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_decoders": -1}, "num_decoders must be at least 0, got -1"),
        ({"channel_dropout": 1.0}, r"channel_dropout must be in \[0, 1\), got 1"),
        ({"frames_per_second": 0.0}, "frames_per_second must be positive"),
    ],
)
def test_a_config_that_breaks_a_rule_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        segmenter(**changes)


@pytest.mark.parametrize("mixer", ["mamba", "vim", "attention"])
def test_a_width_makes_all_mixers_of_equal_size(mixer: str):
    wanted = count_parameters(segmenter(width=64))
    width = matched(lambda number: segmenter(mixer=mixer, width=number), wanted, among=range(16, 129))
    assert abs(count_parameters(segmenter(mixer=mixer, width=width)) / wanted - 1) <= 0.03
