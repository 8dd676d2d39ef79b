"""What is trained inside towers: nothing, additions, or all; and what an optimiser and a checkpoint hold of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.small_models import HFKind, OpenClipKind
from tests.vlm.encoders.conftest import frames, hf_folder, loaded, one_torch_thread, open_clip_folder  # noqa: F401
from vlm.encoders.towers import TorchEncoder
from vlm.errors import BackendUnavailable, InputError
from vlm.models.finetune import FinetuneConfig, OpenTowers, block_products, told_parameters
from vlm.train.optim import parameter_groups

TEXTS = ["a dog runs on grass", "red car"]
KINDS = ["open_clip clip", "open_clip siglip", "open_clip timm", "transformers clip", "transformers siglip"]


@pytest.fixture(params=KINDS)
def access(
    request: pytest.FixtureRequest,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    hf_folder: Callable[[HFKind], Path],  # noqa: F811
) -> TorchEncoder:
    """An encoder of the test's own: its towers are changed in place."""
    library, kind = request.param.split()
    return loaded(f"openclip:local-dir:{open_clip_folder(kind)}" if library == "open_clip" else f"hf:{hf_folder(kind)}")


def vectors(access: TorchEncoder, frames: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:  # noqa: F811
    return access.forward_frames(access.preprocess(torch.from_numpy(frames[:3]))), access.forward_text(access.tokenize(TEXTS))[0]


def opened(access: TorchEncoder, mode: str) -> OpenTowers:
    if mode == "lora":
        pytest.importorskip("peft")
    torch.manual_seed(0)
    return OpenTowers(access, FinetuneConfig(mode=mode, lora_rank=2))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["heads", "lora", "towers"])
def test_new_additions_leave_every_vector_as_it_was(
    mode: str,
    access: TorchEncoder,
    frames: NDArray[np.uint8],  # noqa: F811
) -> None:
    before = vectors(access, frames)
    opened(access, mode)
    for one, other in zip(before, vectors(access, frames), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-4)


def test_lora_learns_in_attention_and_feed_forward_of_both_towers_and_nothing_else_does(
    access: TorchEncoder,
    frames: NDArray[np.uint8],  # noqa: F811
) -> None:
    added = opened(access, "lora")
    own = {id(p) for p in added.parameters()}
    assert {id(p) for tower in (access.vision, access.text) for p in tower.parameters() if p.requires_grad} == own
    for _ in range(2):  # B is zero at first, and so is the gradient of A
        sum(part.square().sum() for part in vectors(access, frames)).backward()  # type: ignore[union-attr]
        assert all(p.grad is not None for p in added.parameters())
        with torch.no_grad():
            for p in added.parameters():
                p -= 0.01 * p.grad
    assert all(bool(p.grad.abs().sum() > 0) for p in added.parameters())


def test_what_was_learnt_comes_back_into_new_towers(
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    frames: NDArray[np.uint8],  # noqa: F811
) -> None:
    one, other = loaded(f"openclip:local-dir:{open_clip_folder('clip')}"), loaded(f"openclip:local-dir:{open_clip_folder('clip')}")
    assert one.vision is not other.vision
    learnt = opened(one, "lora")
    before = vectors(one, frames)
    with torch.no_grad():
        for p in learnt.parameters():
            p.normal_(std=0.3)
    opened(other, "lora").load_state_dict(learnt.state_dict())
    for was, first, second in zip(before, vectors(one, frames), vectors(other, frames), strict=True):
        assert float((was - first).abs().max().detach()) > 0.01
        assert torch.equal(first, second)


def test_an_optimiser_has_no_state_of_what_is_frozen(access: TorchEncoder) -> None:
    assert parameter_groups(opened(access, "heads").named_parameters(), weight_decay=0.1) == []
    assert not any(p.requires_grad for tower in (access.vision, access.text) for p in tower.parameters())


def test_whole_towers_learn_all_of_their_weights(access: TorchEncoder) -> None:
    towers = opened(access, "towers")
    assert all(p.requires_grad for tower in (access.vision, access.text) for p in tower.parameters())
    counted = {id(p): p.numel() for tower in (access.vision, access.text) for p in tower.parameters()}
    assert sum(p.numel() for p in towers.parameters()) == sum(counted.values())


def test_projections_behind_the_blocks_get_no_lora() -> None:
    block = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2), "fc": nn.Linear(4, 4)})
    tower = nn.ModuleDict({"blocks": nn.ModuleList([block]), "proj": nn.Linear(4, 4)})
    assert list(block_products(tower)) == ["blocks.0.attn", "blocks.0.fc"]


def test_counts_are_told() -> None:
    class Access:
        vision, text = nn.Linear(3, 4).requires_grad_(False), nn.Linear(1000, 1, bias=False).requires_grad_(False)

    told = told_parameters([("heads", nn.Linear(2, 2)), ("adapters", nn.Identity())], Access())  # type: ignore[arg-type]
    assert told == "trains 6 parameters (heads 6); 1,016 of the towers are frozen"


def test_a_tower_without_blocks_and_a_second_lora_are_refused(
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    access = loaded(f"openclip:local-dir:{open_clip_folder('clip')}")
    opened(access, "lora")
    with pytest.raises(InputError, match="vision tower has LoRA in it already: load the encoder anew"):
        opened(access, "lora")

    class Plain:
        vision, text = nn.Linear(3, 4), nn.Linear(3, 4)

    with pytest.raises(InputError, match=r"finds no attention .* vision tower"):
        OpenTowers(Plain(), FinetuneConfig(mode="lora"))  # type: ignore[arg-type]


def test_without_peft_the_extra_is_named(
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BackendUnavailable, match=r"vlm-retrieval\[lora\]"):
        OpenTowers(loaded(f"openclip:local-dir:{open_clip_folder('clip')}"), FinetuneConfig(mode="lora"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"mode": "adaptors"}, "did you mean 'adapters'"), ({"lora_rank": 0}, "lora_rank.*0"), ({"lora_dropout": 1.0}, "lora_dropout.*1")],
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        FinetuneConfig(**wrong)  # type: ignore[arg-type]
