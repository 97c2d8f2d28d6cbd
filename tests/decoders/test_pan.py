"""PAN's attention where its coarsest maps are smaller than its kernels."""

import pytest
import torch

from segkit.decoders.pan import PyramidAttention


def gradients(attention, x, precision):
    attention.zero_grad()
    torch.full((1_000_000,), 1e6)  # what memory may hold next
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = attention(x)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    (out.float() * weights).sum().backward()
    return {name: p.grad.clone() for name, p in attention.named_parameters()}


@pytest.mark.parametrize("size", [(4, 4), (4, 8), (2, 4), (3, 30), (30, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_of_small_maps_are_those_of_fp32(size, layout):
    torch.manual_seed(0)
    attention = PyramidAttention(512, 32, "none").train().to(memory_format=layout)
    x = torch.randn(2, 512, *size).to(memory_format=layout)
    expected = gradients(attention, x, "fp32")
    found = [gradients(attention, x, "bf16") for _ in range(3)]
    for name, gradient in expected.items():
        if name.endswith("weight"):  # rounding turns a few ReLUs on or off
            assert all((each[name] - gradient).norm() < 0.5 * gradient.norm() for each in found), (
                name
            )
            assert all(torch.equal(each[name], found[0][name]) for each in found), name


@pytest.mark.parametrize("size", [(4, 4), (2, 1), (1, 30), (12, 12)], ids=str)
def test_room_changes_no_number(size):
    torch.manual_seed(0)
    attention = PyramidAttention(8, 8, "none")
    x = torch.randn(2, 8, *size)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attention.train()(x), attention.eval()(x))
