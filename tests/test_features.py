"""The contract: fitting without stretching, and refusals that name both sides."""

import dataclasses

import numpy as np
import pytest
import torch

from segkit.errors import UserError, unknown_name
from segkit.features import (
    FeatureSpec,
    Pyramid,
    Wants,
    check_maps,
    check_strides,
    crop_or_pad,
    size_at,
    strides_above,
)

SIZES = [(6, 8), (7, 8), (6, 9), (7, 9), (5, 8), (5, 7), (7, 7), (5, 9), (1, 1), (11, 13)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def numpy_fit(x: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    x = x[:, :, : size[0], : size[1]]
    grow = [(0, 0), (0, 0), (0, size[0] - x.shape[2]), (0, size[1] - x.shape[3])]
    return np.pad(x, grow, mode="edge" if mode == "replicate" else "constant")


@pytest.mark.parametrize("mode", ["constant", "replicate"])
@pytest.mark.parametrize("size", SIZES)
def test_fit_pads_and_crops_at_the_bottom_and_right_like_numpy(size, mode):
    x = torch.randn(2, 3, 6, 8)
    np.testing.assert_array_equal(crop_or_pad(x, size, mode), numpy_fit(x.numpy(), size, mode))


def test_fit_pads_with_zeros_unless_told_otherwise():
    assert crop_or_pad(torch.ones(1, 1, 1, 1), (1, 3)).flatten().tolist() == [1, 0, 0]


def test_fit_passes_gradients_to_what_it_keeps_and_only_there():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    crop_or_pad(x, (3, 5)).sum().backward()
    expected = torch.ones(4, 4)
    expected[3] = 0
    assert torch.equal(x.grad[0, 0], expected)


def test_spec_is_frozen_and_pyramid_has_no_indices_by_default():
    spec = FeatureSpec("conv4", channels=512, stride=8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.stride = 16
    assert Pyramid([], []).indices is None


@pytest.mark.parametrize(
    ("stride", "above"), [(1, []), (2, [1]), (8, [4, 2, 1]), (32, [16, 8, 4, 2, 1])]
)
def test_strides_above(stride, above):
    assert strides_above(stride) == above


def test_size_at_finds_each_stride():
    sizes = [(45, 61), (22, 30), (11, 15)]
    assert [size_at(s, sizes) for s in (1, 2, 4)] == sizes
    assert size_at(4, None) is None


def test_size_at_says_which_stride_has_no_size_and_what_to_do():
    with pytest.raises(UserError) as error:
        size_at(4, [(45, 61), (22, 30)])
    for part in ("(45, 61)", "stride 4", "pass sizes=None"):
        assert part in str(error.value)


@pytest.mark.parametrize("channels", [[8], [8, 16, 32], [16, 8], [8, 17], []])
def test_check_maps_names_both_lists_of_channels(channels):
    maps = [torch.zeros(1, c, 2, 2) for c in channels]
    with pytest.raises(UserError) as error:
        check_maps(maps, (8, 16), torch.nn.Identity())
    for part in ("Identity", "[8, 16]", f"channels {channels}", "pass the list of maps"):
        assert part in str(error.value)


def test_check_maps_accepts_the_list_it_was_built_for():
    check_maps([torch.zeros(1, 8, 2, 2), torch.zeros(1, 16, 1, 1)], (8, 16), torch.nn.Identity())


def nchw(channels):
    return torch.zeros(1, channels, 4, 6)


@pytest.mark.parametrize(
    ("maps", "in_channels", "words"),
    [
        ({"aux": nchw(8), "out": nchw(16)}, [16], "got a dict; pass [maps['out']]"),
        ({"image": nchw(3), 0: nchw(8), 1: nchw(16)}, [8, 16], "pass [maps[0], maps[1]]"),
        ({"a": nchw(8), "b": nchw(16)}, [8, 16], "pass list(maps.values())"),
        ({"a": nchw(8).permute(0, 2, 3, 1)}, [8], "pass list(maps.values())"),
        ({"image": nchw(3), "out": {"out": nchw(16)}}, [16], "tensors (N, C, H, W) with channels"),
        ([{"out": nchw(16)}], [16], "got a list of dict; pass tensors (N, C, H, W) with channels"),
        ([None, nchw(16)], [8, 16], "got a list of NoneType, Tensor"),
        (nchw(8), [8], "got a Tensor; pass [maps]"),
        (Pyramid([nchw(8)], []), [8], "got a Pyramid; pass its parts, as in decoder(*pyramid)"),
    ],
)
def test_check_maps_says_how_to_make_a_list(maps, in_channels, words):
    with pytest.raises(UserError) as error:
        check_maps(maps, in_channels, torch.nn.Identity())
    assert words in str(error.value)


@pytest.mark.parametrize("strides", [[1], [32], [2, 4, 8], [1, 32], [4, 16]])
def test_check_strides_accepts_rising_powers_of_two(strides):
    check_strides([8] * len(strides), strides)


@pytest.mark.parametrize("strides", [[3], [0], [-2], [2, 6], [4, 2], [2, 2], [2, 4, 4]])
def test_check_strides_refuses_others(strides):
    with pytest.raises(UserError) as error:
        check_strides([8] * len(strides), strides)
    for part in (f"strides={strides}", "rising powers of two", "leave out a map"):
        assert part in str(error.value)


@pytest.mark.parametrize(("channels", "strides"), [([8], [2, 4]), ([8, 16], [2]), ([], [])])
def test_check_strides_refuses_lists_of_different_lengths(channels, strides):
    with pytest.raises(UserError) as error:
        check_strides(channels, strides)
    for part in (f"in_channels={channels}", f"strides={strides}", "one entry a map"):
        assert part in str(error.value)


def test_a_user_error_is_a_value_error_and_an_unknown_name_lists_the_known():
    assert issubclass(UserError, ValueError)
    message = str(unknown_name("norm", "bacth", ["group", "batch"]))
    assert message == "unknown norm 'bacth'; did you mean 'batch'? Known: batch, group"
    assert "did you mean" not in str(unknown_name("norm", "zzz", ["group", "batch"]))


@pytest.mark.parametrize(
    ("wants", "available", "chosen"),
    [
        (Wants(finest=4), [2, 4, 8], [4, 8]),
        (Wants(finest=4), [1, 2], [2]),
        (Wants((2, 8)), [2, 4, 8], [2, 8]),
        (Wants(coarsest=True, finest=4), [2, 4, 8], [8]),
    ],
)
def test_maps_from_a_stride_on_and_the_coarsest_in_any_case(wants, available, chosen):
    assert wants.choose(available) == chosen
