from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vlm.models.suite_cases import DIM, MIXERS, frames, localizer
from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.suite.actions import find_actions
from vlm.models.suite.localization import ActionMamba, LocalizationConfig, points_of
from vlm.models.suite.matching import matched
from vlm.models.suite.segmentation import ASMamba
from vlm.ssm.stack import count_parameters
from vlm.types import Features


@pytest.mark.parametrize("mixer", MIXERS)
def test_an_item_of_a_batch_gives_what_it_gives_alone_with_gaps_in_the_mask(mixer: str):
    model = localizer(mixer=mixer).double()
    items = frames(9, 1, 14)
    batch, mask = torch.full((3, 20, DIM), torch.nan, dtype=torch.float64), torch.zeros(3, 20, dtype=torch.bool)
    for number, item in enumerate(items):
        places = torch.randperm(20, generator=torch.Generator().manual_seed(number))[: len(item)].sort().values
        batch[number, places], mask[number, places] = item, True
    together = model(batch, mask)
    lengths, times = torch.tensor([9, 1, 14]), torch.cat([torch.arange(n, dtype=torch.float64) / 2 for n in (9, 1, 14)])
    points = model.points(lengths, times, torch.tensor([4.5, 0.5, 7.0]))
    for number, item in enumerate(items):
        alone, own = model(item[None]), points.item == number
        torch.testing.assert_close(together.logits[own], alone.logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(together.offsets[own], alone.offsets, rtol=0, atol=1e-12)


def test_points_stand_in_the_middle_of_the_rows_that_their_level_keeps():
    points = points_of(
        torch.tensor([3, 2]), torch.tensor([0.0, 0.5, 1.0, 0.0, 0.5]), torch.tensor([1.2, 1.0]), levels=3, frames_per_second=2.0
    )
    assert points.level.tolist() == [0] * 5 + [1] * 3 + [2] * 2
    assert points.item.tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 0, 1]
    assert points.centres.tolist() == pytest.approx([0.25, 0.75, 1.1, 0.25, 0.75, 0.25, 1.1, 0.25, 0.25, 0.25])
    assert points.stride.tolist() == [0.5] * 5 + [1.0] * 3 + [2.0] * 2


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1000])
def test_a_video_of_any_length_gives_as_many_proposals_as_points(length: int):
    model = localizer()
    proposals = model(frames(length, dtype=torch.float32)[0][None])
    points = model.points(torch.tensor([length]), torch.arange(length, dtype=torch.float64) / 2, torch.tensor([length / 2.0]))
    assert len(proposals.logits) == len(proposals.offsets) == len(points.centres)
    assert bool((proposals.offsets > 0).all())


@pytest.mark.parametrize("seed", range(3))
def test_found_actions_lie_in_the_video_and_come_best_first(seed: int):
    model = localizer()
    with torch.no_grad():
        model.classify.last.linear.bias.zero_()
        model.scales.fill_(20.0 + seed)  # offsets of many seconds
    times = np.array([0.0, 0.6, 0.9, 2.0, 2.5])
    found = find_actions(model, Features(frames(5, dtype=torch.float32)[0].numpy(), times, 3.1), most=7)
    assert len(found) == 7
    assert all(0.0 <= action.span.start < action.span.end <= 3.1 for action in found)
    assert all(one.score >= other.score for one, other in itertools.pairwise(found))
    assert {action.label for action in found} <= {"run", "jump", "swim"}


def test_nothing_is_found_where_nothing_scores_enough():
    features = Features(frames(5, dtype=torch.float32)[0].numpy(), np.arange(5) / 2, 2.5)
    assert find_actions(localizer(), features, least_score=0.9) == []


def test_a_video_without_rows_is_refused():
    with pytest.raises(InputError, match="at least one row, got none"):
        find_actions(localizer(), Features(np.zeros((0, DIM), np.float32), np.zeros(0), 1.0))


def test_a_folder_gives_the_model_back_and_its_card_tells_what_it_is(tmp_path: Path):
    model = localizer(mixer="vim")
    model.standardise.learn(frames(20, dtype=torch.float32)[0])
    folder = model.save_pretrained(tmp_path / "model")
    again = ActionMamba.from_pretrained(folder)
    assert again.config == model.config
    x = frames(9, dtype=torch.float32)[0][None]
    torch.testing.assert_close(again(x).logits, model(x).logits, rtol=0, atol=0)
    card = (folder / "README.md").read_text()
    for words in ("`toy` (abc)", "`vim`", "run, jump, swim", f"| together | {count_parameters(model):,} |", "Nothing has been measured"):
        assert words in card


def test_a_folder_of_something_else_is_refused_by_what_it_is(tmp_path: Path):
    folder = localizer().save_pretrained(tmp_path / "model")
    with pytest.raises(WeightsUnavailable, match="holds a model of localization, and one of segmentation is needed"):
        ASMamba.from_pretrained(folder)
    with pytest.raises(WeightsUnavailable, match="there is no folder"):
        ActionMamba.from_pretrained(tmp_path / "none")
    config = folder / "config.json"
    held = json.loads(config.read_text())
    config.write_text(json.dumps(held | {"format": 9}))
    with pytest.raises(WeightsUnavailable, match="has format 9, this vlm reads up to 1"):
        ActionMamba.from_pretrained(folder)
    config.write_text(json.dumps(held | {"model": held["model"] | {"widht": 3}}))
    with pytest.raises(WeightsUnavailable, match=re.escape("model.widht is unknown; did you mean 'width'?")):
        ActionMamba.from_pretrained(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something other than a model"):
        localizer().save_pretrained(tmp_path / "full")


def test_missing_and_extra_tensors_are_named(tmp_path: Path):
    folder = localizer().save_pretrained(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["scales"]
    tensors["strange"] = torch.zeros(1)
    tensors["standardise.mean"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors")
    told = r"1 missing \(scales\), 1 too many \(strange\), 1 of another shape \(standardise.mean\)"
    with pytest.raises(WeightsUnavailable, match=told):
        ActionMamba.from_pretrained(folder)


class Other:
    name, fingerprint, dim = "other", "xyz", DIM


def test_another_encoder_is_refused_with_both_names():
    with pytest.raises(EncoderMismatch, match=r"'toy' \(abc\).*'other' \(xyz\)"):
        localizer().check_encoder(Other())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": "vin"}, "mixer must be one of .*did you mean 'vim'"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"branch_layers": -1}, "branch_layers must be at least 0, got -1"),
        ({"first_range": 0.0}, r"first_range must be positive, got 0\.0"),
    ],
)
def test_a_config_that_breaks_a_rule_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        localizer(**changes)


def test_classes_must_differ():
    with pytest.raises(InputError, match="classes must be different names"):
        LocalizationConfig(encoder="toy", fingerprint="abc", dim=DIM, classes=("run", "run"))


@pytest.mark.parametrize("mixer", ["mamba", "vim", "attention"])
def test_a_width_makes_all_mixers_of_equal_size(mixer: str):
    wanted = count_parameters(localizer(width=64))
    changes = {"ffn_expand": 1.0} if mixer == "attention" else {}
    width = matched(lambda number: localizer(mixer=mixer, width=number, **changes), wanted, among=range(16, 129))
    assert abs(count_parameters(localizer(mixer=mixer, width=width, **changes)) / wanted - 1) <= 0.03


@pytest.mark.parametrize("wanted", [1, 10, 49, 50, 51, 200, 5000])
def test_the_nearest_of_all_numbers_is_taken(wanted: int):
    def build(number: int) -> torch.nn.Module:
        if number % 3 == 1:
            raise InputError("not one of these")
        return torch.nn.Linear(number, number, bias=False)

    numbers = range(1, 40)
    nearest = min((number for number in numbers if number % 3 != 1), key=lambda number: (abs(number**2 - wanted), number))
    assert matched(build, wanted, among=numbers, within=100.0) == nearest


def test_sizes_that_nothing_comes_near_are_told():
    with pytest.raises(InputError, match=r"no model comes within 3% of 1,000,000 parameters: the nearest, at 16, has"):
        matched(lambda number: localizer(width=number), 1_000_000, among=[8, 16])
    with pytest.raises(InputError, match="can be built from any"):
        matched(lambda number: localizer(mixer="attention", num_heads=5, width=number), 1_000, among=[8, 16])
