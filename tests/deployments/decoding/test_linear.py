import pytest
import torch
from torch import nn

from deployments.decoding.devices import Precision
from deployments.decoding.linear import NUM_EXACT, ROWS_AT_ONCE, Int8Linear, linear, output

FLOAT32 = Precision(torch.float32, torch.float32)
INT8 = Precision(torch.float32, torch.float32, has_int8_weights=True)


@pytest.fixture
def modules() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(96, 64), nn.Linear(96, 40, bias=False), nn.Linear(96, 8)]


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 7, ROWS_AT_ONCE + 3])
def test_several_at_once_are_each_of_them(modules: list[nn.Linear], num_rows: int) -> None:
    x = torch.randn(num_rows, 96)
    expected = torch.cat([modules[0](x), 0.5 * modules[1](x), modules[2](x)], dim=-1)
    scales = (1.0, 0.5, 1.0)
    assert torch.allclose(linear(modules, FLOAT32, scales)(x), expected, atol=1e-5)
    found = linear(modules, INT8, scales)(x)
    assert (found - expected).norm() / expected.norm() < 0.02


@torch.inference_mode()
def test_8_bits_of_a_row_are_its_own(modules: list[nn.Linear]) -> None:
    """Exactly: also beside rows a thousand times as large, and cut off from them."""
    small = linear(modules, INT8)
    x = torch.randn(2 * ROWS_AT_ONCE + 9, 96) * torch.logspace(-2, 3, 2 * ROWS_AT_ONCE + 9)[:, None]
    together = small(x)
    for row in (0, 5, ROWS_AT_ONCE, len(x) - 1):
        assert torch.equal(small(x[row : row + 1]), together[row : row + 1])


@torch.inference_mode()
def test_rows_of_zeros_and_any_shape(modules: list[nn.Linear]) -> None:
    small = linear(modules[:1], INT8)
    assert torch.allclose(small(torch.zeros(2, 3, 96)), modules[0].bias.expand(2, 3, 64))
    assert small(torch.randn(96)).shape == (64,)
    assert small(torch.randn(4, 96).bfloat16()).dtype == torch.float32


def test_weights_of_zeros() -> None:
    module = nn.Linear(16, 4)
    nn.init.zeros_(module.weight)
    with torch.inference_mode():
        assert torch.allclose(linear([module], INT8)(torch.randn(3, 16)), module.bias.expand(3, 4))


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
def test_the_likeliest_tokens_are_exact(bias: bool) -> None:
    torch.manual_seed(1)
    module = nn.Linear(64, 1_000, bias=bias)
    hidden = torch.randn(2, 3, 64)
    expected, found = module(hidden), output(module, INT8)(hidden)
    best = expected.topk(NUM_EXACT // 2).indices
    assert torch.allclose(found.gather(-1, best), expected.gather(-1, best), atol=1e-5)
    assert (found - expected).norm() / expected.norm() < 0.03
    assert torch.allclose(output(module, FLOAT32)(hidden), expected, atol=1e-5)
    few = nn.Linear(64, 8, bias=bias)
    assert torch.allclose(output(few, INT8)(hidden), few(hidden), atol=1e-5)


@torch.inference_mode()
def test_large_channels_need_not_take_all_8_bits(modules: list[nn.Linear]) -> None:
    module, x = modules[0], torch.randn(50, 96)
    x[:, 7] *= 200
    expected = module(x)
    scales = (x.abs().amax(dim=0) / module.weight.abs().amax(dim=0)).sqrt()
    plain, smooth = Int8Linear(module.weight, module.bias), Int8Linear(module.weight, module.bias, scales)
    assert (smooth(x) - expected).norm() < 0.3 * (plain(x) - expected).norm()
    assert torch.equal(smooth(x)[3:4], smooth(x[3:4]))
