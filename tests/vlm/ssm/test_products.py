from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.vlm.ssm.mixers import TOLERANCE
from vlm.ssm import products
from vlm.ssm.stack import MixerConfig

D, E = 6, 10


def matrices(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, D, generator=generator), torch.randn(E, D, generator=generator)


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGE_BYTES", 0)


@pytest.mark.parametrize("shape", [(1, 7), (3, 5), (4,), (2, 0)])
def test_a_product_without_gradients_is_that_of_torch(shape: tuple[int, ...]):
    x, weight = matrices(*shape)
    with torch.no_grad():
        found = products.linear(x, weight)
        more = products.add_linear(found.clone(), x, weight)
    torch.testing.assert_close(found, functional.linear(x, weight))
    torch.testing.assert_close(more, 2 * functional.linear(x, weight))


def test_rows_that_are_part_of_wider_ones_are_taken():
    x, weight = matrices(2, 5)
    part, rows = x[..., 1:4], weight[3:7, 1:4]
    with torch.no_grad():
        torch.testing.assert_close(products.linear(part, rows), functional.linear(part, rows))


def test_a_product_with_gradients_has_them():
    x, weight = matrices(1, 7)
    weight.requires_grad_()
    products.add_linear(products.linear(x, weight), x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, 2 * x.sum((0, 1)).expand(E, D))


def test_autocast_reaches_products_of_any_size():
    x, weight = matrices(1, 7)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["mamba", "vim", "dbm"])
def test_a_mixer_says_the_same_with_and_without_gradients(name: str):
    torch.manual_seed(0)
    mixer, x = MixerConfig(name, 16, d_state=4).build(), torch.randn(2, 9, 16)  # type: ignore[arg-type]
    with torch.no_grad():
        found = mixer(x)
    torch.testing.assert_close(found, mixer(x).detach(), rtol=0, atol=TOLERANCE[torch.float32])
