"""Time inside a tower: nothing changes at first, then patches of other frames are seen, as the paper's two residuals say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.small_models import HFKind, OpenClipKind
from tests.vlm.encoders.conftest import frames, hf_encoder, hf_folder, one_torch_thread, open_clip_encoder, open_clip_folder  # noqa: F401
from vlm.encoders.pocket import load_pocket
from vlm.encoders.towers import TorchEncoder
from vlm.errors import InputError
from vlm.models.tower_adapter import TowerAdapter, TowerAdapterConfig

RESIDUALS = ("frozen", "vanilla")


@pytest.fixture(params=["open_clip", "transformers"])
def tower(
    request: pytest.FixtureRequest,
    open_clip_encoder: Callable[[OpenClipKind], TorchEncoder],  # noqa: F811
    hf_encoder: Callable[[HFKind], TorchEncoder],  # noqa: F811
) -> TorchEncoder:
    return open_clip_encoder("clip") if request.param == "open_clip" else hf_encoder("clip")


@pytest.fixture(params=RESIDUALS)
def adapter(request: pytest.FixtureRequest, tower: TorchEncoder) -> Iterator[TowerAdapter]:
    torch.manual_seed(0)
    made = TowerAdapter(tower, TowerAdapterConfig(residual=request.param, d_state=4))
    yield made
    made.remove()


@pytest.fixture
def pixels(tower: TorchEncoder, frames: NDArray[np.uint8]) -> Tensor:  # noqa: F811
    return tower.preprocess(torch.from_numpy(frames[:6])).unflatten(0, (2, 3))


def learnt(adapter: TowerAdapter) -> TowerAdapter:
    with torch.no_grad():
        for layer in adapter.layers:
            layer.gate.fill_(0.8)
    return adapter


def test_a_new_adapter_gives_what_the_tower_gives(adapter: TowerAdapter, tower: TorchEncoder, pixels: Tensor) -> None:
    alone = tower.forward_frames(pixels[:, 0])
    assert torch.equal(adapter(pixels[:, :1]), alone)
    torch.testing.assert_close(adapter(pixels), tower.forward_frames(pixels.flatten(0, 1)).unflatten(0, (2, 3)).mean(dim=1))


def test_an_adapter_that_has_learnt_sees_other_frames_and_their_order(adapter: TowerAdapter, pixels: Tensor) -> None:
    learnt(adapter)
    with torch.no_grad():
        own = adapter.frames(pixels)
        other = pixels.clone()
        other[:, 2] = pixels[:, 0]
        assert float((own[:, 0] - adapter.frames(other)[:, 0]).abs().max()) > 1e-4
        assert float((own.mean(dim=1) - adapter(pixels.flip(1))).abs().max()) > 1e-5


def test_clips_of_a_batch_do_not_see_each_other(adapter: TowerAdapter, pixels: Tensor) -> None:
    learnt(adapter)
    torch.testing.assert_close(adapter(pixels)[:1], adapter(pixels[:1]), rtol=1e-4, atol=1e-5)


def test_only_what_was_added_learns(adapter: TowerAdapter, tower: TorchEncoder, pixels: Tensor) -> None:
    own = {id(parameter) for parameter in tower.vision.parameters()}
    assert own.isdisjoint({id(parameter) for parameter in adapter.parameters()})
    adapter(pixels).sum().backward()
    assert all(layer.gate.grad is not None for layer in adapter.layers)
    tower.vision.zero_grad(set_to_none=True)


def test_without_its_hooks_the_tower_is_as_it_was(tower: TorchEncoder, pixels: Tensor) -> None:
    before = tower.forward_frames(pixels[:, 0])
    made = learnt(TowerAdapter(tower, TowerAdapterConfig(d_state=4)))
    assert torch.equal(tower.forward_frames(pixels[:, 0]), before)  # single frames from elsewhere have no time
    made.remove()
    assert torch.equal(tower.forward_frames(pixels[:, 0]), before)


def test_the_frozen_residual_is_the_formula_of_the_paper(
    open_clip_encoder: Callable[[OpenClipKind], TorchEncoder],  # noqa: F811
    frames: NDArray[np.uint8],  # noqa: F811
) -> None:
    """One block by hand: x + attention(norm([class ; patches + time])), and the block's MLP after it."""
    tower = open_clip_encoder("clip")
    block = tower.vision_blocks[0]
    torch.manual_seed(0)
    made = learnt(TowerAdapter(tower, TowerAdapterConfig(residual="frozen", d_state=4)))
    x = torch.randn(3, 17, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), made._seeing(3):
        found = block(x)
    made.remove()
    with torch.no_grad():
        seen = torch.cat([x[:, :1], x[:, 1:] + np.tanh(0.8) * over_time(made.layers[0], x[:, 1:])], dim=1)
        after = x + block.ls_1(block.attention(block.ln_1(seen)))
        expected = after + block.ls_2(block.mlp(block.ln_2(after)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def over_time(layer: nn.Module, patches: Tensor) -> Tensor:
    """Each place of the picture by itself."""
    places = [layer.mixer(layer.norm(patches[:, place])[None])[0] for place in range(patches.shape[1])]
    return torch.stack(places, dim=1)


def test_a_tower_without_blocks_is_refused() -> None:
    class Bare:
        device = "cpu"
        vision_blocks = ()

    with pytest.raises(InputError, match="shows no transformer blocks"):
        TowerAdapter(Bare(), TowerAdapterConfig())  # type: ignore[arg-type]


def test_blocks_without_a_norm_are_refused() -> None:
    class Convolutions:
        device = "cpu"
        vision_blocks = (nn.Sequential(nn.Linear(2, 2)),)

    with pytest.raises(InputError, match=r"block 0 .*Sequential.* has no LayerNorm"):
        TowerAdapter(Convolutions(), TowerAdapterConfig())  # type: ignore[arg-type]


def test_clips_without_frames_are_refused(adapter: TowerAdapter) -> None:
    with pytest.raises(InputError, match=r"at least one frame, got \(2, 0, 3, 32, 32\)"):
        adapter(torch.zeros(2, 0, 3, 32, 32))


def test_an_unknown_residual_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'frozen'"):
        TowerAdapterConfig(residual="frosen")  # type: ignore[arg-type]


# Towers of maps


@pytest.fixture(params=RESIDUALS)
def pocket_adapter(request: pytest.FixtureRequest) -> Iterator[tuple[TowerAdapter, TorchEncoder]]:
    encoder = load_pocket(device="cpu", precision="float32")
    torch.manual_seed(0)
    made = TowerAdapter(encoder, TowerAdapterConfig(residual=request.param, d_state=4))
    yield made, encoder
    made.remove()


def pocket_pixels(encoder: TorchEncoder, t: int) -> Tensor:
    size = encoder.preprocessing.framing.height
    pictures = np.random.default_rng(0).integers(0, 255, (2 * t, size, size, 3), dtype=np.uint8)
    return encoder.preprocess(torch.from_numpy(pictures)).unflatten(0, (2, t))


def test_pockets_maps_are_adapted_too_and_a_new_adapter_changes_nothing(pocket_adapter: tuple[TowerAdapter, TorchEncoder]) -> None:
    adapter, encoder = pocket_adapter
    pixels = pocket_pixels(encoder, 3)
    with torch.no_grad():
        alone = encoder.forward_frames(pixels.flatten(0, 1)).unflatten(0, (2, 3))
        torch.testing.assert_close(adapter.frames(pixels), alone, rtol=1e-4, atol=1e-5)


def test_each_place_of_a_map_is_mixed_along_time_by_itself(pocket_adapter: tuple[TowerAdapter, TorchEncoder]) -> None:
    adapter, _ = pocket_adapter
    layer = adapter.layers[0]
    nn.init.constant_(layer.gate, 0.5)
    maps = torch.randn(6, layer.norm.normalized_shape[0], 2, 3)
    with torch.no_grad():
        found = layer(maps, 3).unflatten(0, (2, 3))
        for item, row, column in ((0, 0, 0), (1, 1, 2)):
            along = maps.unflatten(0, (2, 3))[item, :, :, row, column]
            expected = along + torch.tanh(torch.tensor(0.5)) * layer.mixer(layer.norm(along)[None])[0]
            torch.testing.assert_close(found[item, :, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_layers_of_one_tower_are_put_into_another_of_its_kind(pocket_adapter: tuple[TowerAdapter, TorchEncoder]) -> None:
    adapter, _ = pocket_adapter
    for layer in adapter.layers:
        nn.init.constant_(layer.gate, 0.5)
    other = load_pocket(device="cpu", precision="float32")
    again = TowerAdapter(other, adapter.config, adapter.layers)
    pixels = pocket_pixels(other, 3)
    with torch.no_grad():
        torch.testing.assert_close(again(pixels), adapter(pixels), rtol=1e-4, atol=1e-5)
    again.remove()
    with pytest.raises(InputError, match="are for 2 blocks, and the vision tower has 3"):
        TowerAdapter(other, adapter.config, adapter.layers[:2])
