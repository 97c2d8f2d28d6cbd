"""Every way to climb against torch.nn.functional or NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.func import grad, hessian, vmap

from segkit.errors import UserError
from segkit.upsample import (
    UPSAMPLERS,
    BedOfNails,
    Interpolate,
    MaxUnpool,
    TransposedConv,
    make_upsampler,
)

MODES = ["nearest", "bilinear", "bicubic"]
ODD_SIZES = [(10, 14), (11, 14), (10, 15), (11, 15), (9, 13), (9, 15), (11, 13)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def interpolated(x: torch.Tensor, mode: str, factor: int = 2) -> torch.Tensor:
    corners = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(x, scale_factor=factor, mode=mode, **corners)


def numpy_fit(x: torch.Tensor, size: tuple[int, int], mode: str) -> np.ndarray:
    kept = x.numpy()[:, :, : size[0], : size[1]]
    grow = [(0, 0), (0, 0), (0, size[0] - kept.shape[2]), (0, size[1] - kept.shape[3])]
    return np.pad(kept, grow, mode=mode)


# Interpolation


@pytest.mark.parametrize("mode", MODES)
def test_interpolation_equals_torch(mode):
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(Interpolate(mode)(x), interpolated(x, mode))
    assert torch.equal(make_upsampler(mode, 3)(x), interpolated(x, mode))


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_interpolation_pads_or_crops_to_the_size_and_never_stretches(mode, size):
    x = torch.randn(2, 3, 5, 7)
    expected = numpy_fit(interpolated(x, mode), size, "edge")
    np.testing.assert_array_equal(Interpolate(mode)(x, size), expected)


@pytest.mark.parametrize("factor", [4, 8, 32])
def test_interpolation_by_other_factors(factor):
    x = torch.randn(1, 2, 3, 2)
    up = Interpolate("bilinear", factor)
    assert torch.equal(up(x), interpolated(x, "bilinear", factor))
    size = (3 * factor + factor - 1, 2 * factor - 1)
    expected = numpy_fit(interpolated(x, "bilinear", factor), size, "edge")
    np.testing.assert_array_equal(up(x, size), expected)


@pytest.mark.parametrize("mode", MODES)
def test_interpolation_commutes_with_a_flip(mode):
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    flipped = Interpolate(mode)(x.flip(-1)).flip(-1)
    torch.testing.assert_close(Interpolate(mode)(x), flipped, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2), (5, 7)])
def test_bilinear_doubling_has_the_gradient_of_torchs_interpolation(size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 3, *(2 * s for s in size), dtype=torch.float64)
    (expected,) = torch.autograd.grad(interpolated(x, "bilinear", 2), x, gradient)
    (got,) = torch.autograd.grad(Interpolate("bilinear")(x), x, gradient)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(Interpolate("bilinear"), x)


def test_bilinear_doubling_goes_through_torch_func_and_forward_ad():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    up = Interpolate("bilinear")

    def reference(x):
        return interpolated(x, "bilinear")

    for transform in (grad, hessian, lambda f: vmap(grad(lambda x: f(x[None])))):
        got, expected = (transform(lambda x, f=f: f(x).pow(3).sum())(x) for f in (up, reference))
        torch.testing.assert_close(got, expected)
    assert torch.equal(vmap(lambda x: up(x[None])[0])(x), reference(x))
    with forward_ad.dual_level():
        tangent = torch.randn_like(x)
        moved = forward_ad.unpack_dual(up(forward_ad.make_dual(x, tangent))).tangent
        assert torch.equal(moved, reference(tangent))


def test_unknown_interpolation_mode_names_the_nearest():
    with pytest.raises(UserError, match=r"'bilinaer'; did you mean 'bilinear'.*nearest"):
        Interpolate("bilinaer")


# What all have in common


@pytest.mark.parametrize("wrong", [(12, 14), (10, 16), (8, 14), (10, 12), (5, 7), (20, 28)])
@pytest.mark.parametrize("name", list(UPSAMPLERS))
def test_a_size_off_by_two_or_more_is_refused(name, wrong):
    x = torch.zeros(1, 4, 5, 7)
    with pytest.raises(UserError) as error:
        make_upsampler(name, 4)(x, wrong, torch.zeros(1, 4, 5, 7, dtype=torch.long))
    for part in ("x2", "(10, 14)", str(wrong), "size recorded before pooling"):
        assert part in str(error.value)


@pytest.mark.parametrize("size", [*ODD_SIZES, None])
@pytest.mark.parametrize("name", list(UPSAMPLERS))
def test_any_can_stand_where_another_stood(name, size):
    x = torch.randn(2, 4, 5, 7)
    up = make_upsampler(name, 4)
    result = up(x, size, torch.zeros(2, 4, 5, 7, dtype=torch.long))
    assert result.shape == (2, 4, *(size or (10, 14)))


@pytest.mark.parametrize("name", list(UPSAMPLERS))
def test_channels_last_gives_the_same_numbers(name):
    x = torch.randn(2, 4, 6, 8)
    _, indices = F.max_pool2d(torch.randn(2, 4, 12, 16), 2, return_indices=True)
    up = make_upsampler(name, 4)
    result = up(x.to(memory_format=torch.channels_last), (12, 16), indices)
    torch.testing.assert_close(result, up(x, (12, 16), indices))


def test_unknown_upsampler_names_the_nearest_and_lists_all():
    with pytest.raises(UserError) as error:
        make_upsampler("transposd", 4)
    assert "unknown upsampler 'transposd'; did you mean 'transposed'?" in str(error.value)
    assert all(name in str(error.value) for name in UPSAMPLERS)


def test_print_shows_how_a_model_climbs():
    text = str(nn.Sequential(*(make_upsampler(name, 4) for name in UPSAMPLERS)))
    for shown in (
        *(f"Interpolate(mode={mode}, factor=2)" for mode in MODES),
        "BedOfNails()",
        "MaxUnpool()",
        "TransposedConv(",
        "ConvTranspose2d(4, 4, kernel_size=(4, 4), stride=(2, 2)",
    ):
        assert shown in text


# Bed of nails


@pytest.mark.parametrize("size", [None, *ODD_SIZES])
def test_bed_of_nails_equals_numpy(size):
    x = torch.randn(2, 3, 5, 7)
    nails = np.zeros((2, 3, 10, 14), np.float32)
    nails[:, :, ::2, ::2] = x
    expected = numpy_fit(torch.from_numpy(nails), size or (10, 14), "constant")
    np.testing.assert_array_equal(BedOfNails()(x, size), expected)


def test_bed_of_nails_gradient():
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: BedOfNails()(x, (7, 5)), x)


# Max-unpooling

POOLED_SIZES = [(8, 8), (9, 8), (8, 9), (9, 9), (2, 2), (3, 3), (5, 12), (1 + 2 * 7, 3)]


def pooled_with_ties(size, low=-2, high=3, dtype=torch.float32):
    """A map of few different values, so that most cells have more than one maximum."""
    before = torch.randint(low, high, (2, 3, *size)).to(dtype)
    return F.max_pool2d(before, 2, return_indices=True)


@pytest.mark.parametrize("values", ["few", "negative", "all_equal", "normal"])
@pytest.mark.parametrize("size", POOLED_SIZES)
def test_max_unpool_equals_torch(size, values):
    torch.manual_seed(0)
    before = {
        "few": torch.randint(-2, 3, (2, 3, *size)).float(),
        "negative": -torch.rand(2, 3, *size) - 1,
        "all_equal": torch.full((2, 3, *size), -3.0),
        "normal": torch.randn(2, 3, *size),
    }[values]
    pooled, indices = F.max_pool2d(before, 2, return_indices=True)
    for x in (pooled, torch.randn_like(pooled)):  # in a decoder other values stand at the indices
        expected = F.max_unpool2d(x, indices, 2, 2, output_size=size)
        assert torch.equal(MaxUnpool()(x, size, indices), expected)


def test_max_unpool_equals_torch_where_the_pool_rounded_up():
    before = torch.randn(2, 3, 7, 9)
    pooled, indices = F.max_pool2d(before, 2, ceil_mode=True, return_indices=True)
    expected = F.max_unpool2d(pooled, indices, 2, 2, output_size=(7, 9))
    assert torch.equal(MaxUnpool()(pooled, (7, 9), indices), expected)


def test_max_unpool_without_a_size_doubles_exactly():
    pooled, indices = pooled_with_ties((8, 12))
    assert torch.equal(MaxUnpool()(pooled, None, indices), F.max_unpool2d(pooled, indices, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_max_unpool_keeps_the_dtype(dtype):
    pooled, indices = pooled_with_ties((9, 7), dtype=dtype)
    result = MaxUnpool()(pooled, (9, 7), indices)
    expected = F.max_unpool2d(pooled.double(), indices, 2, output_size=(9, 7))
    assert result.dtype == dtype
    assert torch.equal(result.double(), expected)


@pytest.mark.parametrize("size", [(9, 12), (8, 13)])
def test_max_unpool_of_channels_last(size):
    before = torch.randint(-2, 3, (2, 4, *size)).float()
    pooled, indices = F.max_pool2d(
        before.to(memory_format=torch.channels_last), 2, return_indices=True
    )
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    expected = F.max_unpool2d(pooled.contiguous(), indices.contiguous(), 2, output_size=size)
    assert torch.equal(MaxUnpool()(pooled, size, indices), expected)


@pytest.mark.usefixtures("deterministic_algorithms")
def test_max_unpool_runs_under_deterministic_algorithms_where_torch_does_not():
    pooled, indices = pooled_with_ties((9, 9))
    pooled.requires_grad_()
    with pytest.raises(RuntimeError, match="deterministic"):
        F.max_unpool2d(pooled, indices, 2, output_size=(9, 9))
    MaxUnpool()(pooled, (9, 9), indices).square().sum().backward()
    assert torch.equal(pooled.grad, 2 * pooled.detach())


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_max_unpool_gradient(size):
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    _, indices = F.max_pool2d(torch.randn(1, 2, *size), 2, return_indices=True)
    assert torch.autograd.gradcheck(lambda x: MaxUnpool()(x, size, indices), x)
    assert torch.autograd.gradgradcheck(lambda x: MaxUnpool()(x, size, indices), x)


class PoolAndBack(nn.Module):
    """The smallest network with a max pool and its undoing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.up = MaxUnpool()

    def forward(self, x):
        x = self.conv(x)
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        return self.up(torch.tanh(pooled), x.shape[-2:], indices)


@pytest.mark.parametrize("size", [(8, 12), (9, 11)])
def test_max_unpool_goes_through_export(size):
    network = PoolAndBack().eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        exported = torch.export.export(network, (x,)).run_decompositions()
        assert torch.equal(exported.module()(x), network(x))
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    for indirect in ("max_unpool", "scatter", "index_put"):  # none is deterministic everywhere
        assert not any(indirect in name for name in called)


def test_max_unpool_goes_through_export_with_dynamic_sizes():
    network = PoolAndBack().eval()
    n, h, w = (torch.export.Dim(name, min=2, max=64) for name in "nhw")
    dims = ({0: n, 2: 2 * h, 3: 2 * w},)
    with torch.no_grad():
        exported = torch.export.export(network, (torch.randn(2, 3, 8, 12),), dynamic_shapes=dims)
        x = torch.randn(3, 3, 16, 6)
        assert torch.equal(exported.module()(x), network(x))


def test_max_unpool_without_indices_says_where_to_get_them():
    with pytest.raises(UserError) as error:
        MaxUnpool()(torch.zeros(1, 1, 2, 2), (4, 4))
    for part in ("indices", "got none", "Wants(indices=True)", "another way of upsampling"):
        assert part in str(error.value)


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (1, 4, 3, 2), (2, 4, 2, 2)])
def test_max_unpool_with_indices_of_another_shape_names_both(shape):
    with pytest.raises(UserError) as error:
        MaxUnpool()(torch.zeros(1, 4, 2, 2), None, torch.zeros(shape, dtype=torch.long))
    for part in ("(1, 4, 2, 2)", str(shape), "same pool"):
        assert part in str(error.value)


# Transposed convolution


@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 2), (6, 2), (8, 2), (8, 4), (16, 8)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7)])
def test_transposed_starts_as_bilinear_interpolation_up_to_the_border(kernel_size, stride, size):
    x = torch.randn(2, 3, *size)
    result = TransposedConv(3, kernel_size, stride)(x)
    expected = interpolated(x, "bilinear", stride)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_transposed_with_a_kernel_of_its_stride_starts_as_nearest():
    x = torch.randn(2, 3, 5, 7)
    expected = interpolated(x, "nearest")
    torch.testing.assert_close(TransposedConv(3, 2, 2)(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_transposed_pads_or_crops_to_the_size(size):
    x = torch.randn(2, 3, 5, 7)
    expected = numpy_fit(interpolated(x, "bilinear"), size, "edge")
    result = TransposedConv(3)(x, size).detach().numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel_size", "stride"), [(2, 2), (4, 2), (6, 2), (8, 4), (16, 8), (3, 3), (9, 3)]
)
def test_transposed_keeps_a_constant_constant(kernel_size, stride):
    result = TransposedConv(2, kernel_size, stride)(torch.full((1, 2, 3, 4), 7.0))
    assert result.shape == (1, 2, 3 * stride, 4 * stride)
    torch.testing.assert_close(result, torch.full_like(result, 7.0), rtol=0, atol=1e-5)


def test_transposed_has_no_checkerboard_after_training_either():
    up = TransposedConv(2, 4)
    nn.init.constant_(up.conv.weight, 0.3)  # every output pixel sums equally many products
    result = up(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(result, torch.full_like(result, 2 * 4 * 0.3))


@pytest.mark.parametrize("flip", [-1, -2])
def test_transposed_with_mirrored_kernels_commutes_with_a_flip(flip):
    up = TransposedConv(3, 4).double()
    nn.init.normal_(up.conv.weight)
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    expected = up(x).flip(flip)
    up.conv.weight.data = up.conv.weight.data.flip(flip)
    torch.testing.assert_close(up(x.flip(flip)), expected, rtol=0, atol=1e-12)


def test_transposed_learns():
    up = TransposedConv(3)
    up(torch.randn(1, 3, 4, 4)).square().sum().backward()
    assert up.conv.weight.grad.abs().min() > 0
    assert up.conv.bias.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("kernel_size", "stride"), [(3, 2), (5, 2), (7, 2), (6, 4), (4, 3), (6, 3), (0, 2), (-2, 2)]
)
def test_transposed_refuses_an_uneven_kernel_with_a_kernel_that_fits(kernel_size, stride):
    with pytest.raises(UserError) as error:
        TransposedConv(4, kernel_size, stride)
    message = str(error.value)
    assert f"kernel {kernel_size} and stride {stride}" in message
    proposed = int(message.rsplit("kernel of ", 1)[1])
    TransposedConv(4, proposed, stride)


@pytest.mark.parametrize("size", [(9, 12), (10, 7), (8, 8), (3, 5)])
@pytest.mark.parametrize("pool", [{}, {"padding": 1}, {"ceil_mode": True}])
def test_pools_of_3x3_are_undone_too(size, pool):
    """Where several windows found one place, values are added; torch keeps one of them."""
    image = torch.randn(2, 3, *size)
    pooled, indices = F.max_pool2d(image, 3, 2, return_indices=True, **pool)
    x = torch.randn_like(pooled)
    expected = torch.zeros(2, 3, *size)
    for n, c, i, j in np.ndindex(*x.shape):
        row, column = divmod(int(indices[n, c, i, j]), size[1])
        expected[n, c, row, column] += x[n, c, i, j]
    torch.testing.assert_close(MaxUnpool(3)(x, size, indices), expected)


def test_pools_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="pools of 2x2 or 3x3"):
        MaxUnpool(4)
