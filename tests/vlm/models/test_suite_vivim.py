"""ViViM: the sequence that the paper describes, its published sizes, and Vim's weights by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.suite.vim_weights import load_vim, load_vim_tensors
from vlm.models.suite.vivim import CHANGE, ViViM, ViViMConfig, num_tokens, resized_positions, sized
from vlm.ssm.stack import count_parameters

SMALL = {"image_size": 16, "patch": 8, "num_frames": 2, "width": 12, "num_layers": 2, "d_state": 4}


def small(**changes: Any) -> ViViM:
    torch.manual_seed(0)
    return ViViM(ViViMConfig(**{**SMALL, **changes})).eval()


def clip(model: ViViM, b: int = 2) -> Tensor:
    size = model.config.image_size
    return torch.randn(b, model.config.num_frames, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
@pytest.mark.parametrize("tubelet", [1, 2])
def test_the_sequence_is_frame_after_frame_with_a_class_token_in_the_middle_of_each(mixer: str, tubelet: int):
    model = small(mixer=mixer, tubelet=tubelet, num_frames=4, num_heads=2)
    nn.init.normal_(model.frame_position)
    pixels = clip(model)
    kernel, bias = model.patch_embed.weight, model.patch_embed.bias
    rows = []
    for step in range(4 // tubelet):
        frames = pixels[:, step * tubelet : (step + 1) * tubelet]
        patches = [torch.einsum("btcij,dctij->bd", frames[..., y : y + 8, x : x + 8], kernel) + bias for y in (0, 8) for x in (0, 8)]
        here = [*patches[:2], model.class_token.expand(2, -1), *patches[2:]]
        rows += [token + model.position[place] + model.frame_position[step] for place, token in enumerate(here)]
    expected = model.stack(torch.stack(rows, dim=1))[:, 2::5].mean(dim=1)
    torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-5)
    assert num_tokens(model.config) == len(rows)


def test_patches_may_see_the_change_against_the_mean_picture_too():
    model, plain = small(change=True, num_frames=4), small(num_frames=4)
    assert model.patch_embed.weight.shape[1] == 6
    with torch.no_grad():
        plain.load_state_dict(model.state_dict() | {"patch_embed.weight": model.patch_embed.weight[:, :3]})
        pixels = clip(model)
        still = pixels[:, :1].expand(-1, 4, -1, -1, -1)
        torch.testing.assert_close(model(still), plain(still), rtol=1e-4, atol=1e-5)
        plain.patch_embed.weight.copy_(model.patch_embed.weight[:, 3:] * CHANGE)
        plain.patch_embed.bias.zero_()  # type: ignore[union-attr]
        model.patch_embed.weight[:, :3] = 0
        model.patch_embed.bias.zero_()  # type: ignore[union-attr]
        torch.testing.assert_close(model(pixels), plain(pixels - pixels.mean(dim=1, keepdim=True)), rtol=1e-3, atol=1e-4)


def test_what_comes_out_is_the_mean_of_class_tokens_or_of_all():
    by_class, by_all = small(), small(pool="mean")
    by_all.load_state_dict(by_class.state_dict())
    pixels = clip(by_class)
    tokens = by_class.mixed(pixels)
    torch.testing.assert_close(by_class(pixels), tokens[:, :, 2].mean(dim=1))
    torch.testing.assert_close(by_all(pixels), tokens.flatten(1, 2).mean(dim=1))


@pytest.mark.parametrize(("size", "published"), [("tiny", 7e6), ("small", 26e6)])
def test_counts_of_numbers_are_those_that_vim_publishes(size: Any, published: float):
    with torch.device("meta"):
        model = ViViM(sized(size, num_frames=1))
    config = model.config
    width, inner, n, rank = config.width, 2 * config.width, 16, config.width // 16
    theta = inner * 4 + inner + (rank + 2 * n) * inner + rank * inner + inner + n * inner + inner
    layer = 2 * inner * width + 2 * theta + inner * width + width
    door = 3 * 16 * 16 * width + width + width + (14 * 14 + 1) * width
    assert count_parameters(model) == 24 * layer + width + door + width  # and one position in time
    with_head = count_parameters(model) + 1000 * width + 1000
    assert abs(with_head - published) < 0.03 * published


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_attention_twin_is_as_large(size: Any):
    with torch.device("meta"):
        vim, attention = (count_parameters(ViViM(sized(size, mixer=mixer))) for mixer in ("vim", "attention"))
    assert abs(vim - attention) < 0.03 * vim


@pytest.mark.parametrize("mixer", ["vim", "dbm", "attention"])
def test_a_later_frame_changes_the_class_token_of_an_earlier_one(mixer: str):
    model = small(mixer=mixer, num_heads=2)
    pixels = clip(model)
    other = pixels.clone()
    other[:, 1] += 1
    assert not torch.allclose(model.steps(pixels)[:, 0], model.steps(other)[:, 0])


def test_a_clip_of_another_size_is_refused():
    model = small()
    for shape in ((2, 3, 3, 16, 16), (2, 2, 3, 8, 16), (2, 3, 16, 16)):
        with pytest.raises(InputError, match=r"pixels must be \(b, 2, 3, 16, 16\)"):
            model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patch": 7}, "image_size must be a multiple of patch, got 16 and 7"),
        ({"tubelet": 4, "num_frames": 6}, "num_frames must be a multiple of tubelet"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"mixer": "vin"}, "did you mean 'vim'"),
        ({"pool": "max"}, "pool must be one of 'class', 'mean', got 'max'"),
        ({"first_spread": 0.0}, "first_spread must be positive"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes: dict[str, Any], told: str):
    with pytest.raises(InputError, match=told):
        ViViMConfig(**{**SMALL, **changes})
    with pytest.raises(InputError, match="'tiny', 'small'"):
        sized("base")  # type: ignore[arg-type]


# Vim's weights


def vim_tensors(*, side: int = 2, patch: int = 8, width: int = 12) -> dict[str, Tensor]:
    """A small checkpoint under the names that Vim's files have."""
    model = small(image_size=side * patch, patch=patch, width=width)
    random = torch.Generator().manual_seed(3)
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side * side + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    layers = {name: torch.rand(value.shape, generator=random) * 0.1 for name, value in model.stack.state_dict().items()}
    return layers | {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def picture_vector(model: ViViM, tensors: dict[str, Tensor], picture: Tensor) -> Tensor:
    """What Vim's class token is for pictures (b, 3, h, w), by its own tensors; the layers are those of ``model``, which is of one frame."""
    patches = F.conv2d(picture, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=8).flatten(2).transpose(1, 2)
    middle = patches.shape[1] // 2
    tokens = torch.cat([patches[:, :middle], tensors["cls_token"].expand(len(picture), -1, -1), patches[:, middle:]], dim=1)
    vector: Tensor = model.stack(tokens + tensors["pos_embed"])[:, middle]
    return vector


@pytest.mark.parametrize(("wrapped", "change"), [(False, False), (True, False), (False, True)])
def test_vims_weights_load_by_name_and_give_vims_class_token(tmp_path: Path, wrapped: bool, change: bool):
    tensors = vim_tensors()
    torch.save({"model": tensors} if wrapped else tensors, tmp_path / "vim.pth")
    model = small(num_frames=1, change=change)
    load_vim(model, tmp_path / "vim.pth")
    picture = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model(picture[:, None]), picture_vector(model, tensors, picture), rtol=1e-4, atol=1e-5)
    assert {name: value for name, value in model.stack.state_dict().items() if not torch.equal(value, tensors[name])} == {}


def test_a_still_clip_enters_the_layers_as_its_picture_does():
    tensors = vim_tensors()
    single, clips = small(num_frames=1), small(num_frames=4, tubelet=2)
    for model in (single, clips):
        load_vim_tensors(model, tensors)
    picture = torch.randn(2, 1, 3, 16, 16)
    tokens = clips.tokens(picture.expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(tokens, single.tokens(picture).expand(-1, 2, -1, -1), rtol=1e-4, atol=1e-5)


def test_positions_are_interpolated_and_the_class_tokens_stays_in_the_middle():
    ramp = torch.arange(4.0)[:, None].expand(4, 4)
    grid = torch.stack([ramp, ramp.T], dim=-1).reshape(16, 2)  # (row, column) of each patch
    positions = torch.cat([grid[:8], torch.tensor([[-7.0, 9.0]]), grid[8:]])
    for side in (2, 4, 8):
        resized = resized_positions(positions, side)
        assert resized[side * side // 2].tolist() == [-7.0, 9.0]
        patches = torch.cat([resized[: side * side // 2], resized[side * side // 2 + 1 :]]).reshape(side, side, 2)
        assert bool((patches[1:, :, 0] > patches[:-1, :, 0]).all())
        assert bool((patches[:, 1:, 1] > patches[:, :-1, 1]).all())
        torch.testing.assert_close(patches.mean(dim=(0, 1)), torch.tensor([1.5, 1.5]), rtol=0, atol=1e-4)  # a ramp keeps its middle
    assert resized_positions(positions, 4) is positions


def test_weights_of_a_larger_grid_fill_a_smaller_model():
    tensors = vim_tensors(side=4)
    model = small()
    load_vim_tensors(model, tensors)
    torch.testing.assert_close(model.position.data, resized_positions(tensors["pos_embed"][0], 2))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda held: held.pop("cls_token"), "missing: cls_token"),
        (lambda held: held.update(dist_token=torch.zeros(1)), "extra: dist_token"),
        (lambda held: held.update(pos_embed=torch.zeros(1, 5, 13)), r"pos_embed is \(1, 5, 13\), must be \(1, any, 12\)"),
        (lambda held: held.update(pos_embed=torch.zeros(1, 7, 12)), "pos_embed of 'weights' cannot be used: .* got 7"),
        (lambda held: held.pop("layers.1.mixer.A_b_log"), "missing: 1.mixer.A_b_log|missing: layers.1.mixer.A_b_log"),
        (lambda held: held.update({"layers.0.mixer.more": torch.zeros(1)}), "extra: .*0.mixer.more"),
    ],
)
def test_names_that_are_missing_or_too_many_are_told_and_nothing_is_copied(change: Any, told: str):
    tensors, model = vim_tensors(), small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    change(tensors)
    with pytest.raises(EncoderMismatch, match=told):
        load_vim_tensors(model, tensors)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(WeightsUnavailable, match=r"none\.pth"):
        load_vim(small(), tmp_path / "none.pth")
