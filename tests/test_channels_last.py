"""The memory format, which is to reach from the images to the logits."""

from contextlib import ExitStack, nullcontext

import pytest
import torch
import torch.nn.functional as F
from networks import SMALL, VARIANTS
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from segkit.channels_last import GroupNorm, laid_out_like, replicate
from segkit.decoders.context import Pooled
from segkit.decoders.head import ScoreHead
from segkit.model import create_model
from segkit.upsample import UPSAMPLERS, MaxUnpool, make_upsampler

LAST = torch.channels_last


def is_last(x):
    return x.stride(1) == 1


def test_a_map_is_laid_out_as_the_one_it_comes_from():
    first, last = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).to(memory_format=LAST)
    found = torch.randn(2, 6, 8, 10)
    assert laid_out_like(first, found) is found
    for source in (last, last[..., :3, :], last[..., :2, :2], last[:1]):
        moved = laid_out_like(source, found)
        assert moved.is_contiguous(memory_format=LAST)
        assert torch.equal(moved, found)
    assert laid_out_like(torch.randn(2, 3, 1, 1), found) is found  # which is in both


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST], ids=str)
def test_padding_and_norm_are_those_of_torch(layout):
    x = torch.randn(2, 4, 5, 7).to(memory_format=layout)
    assert torch.equal(replicate(x, (1, 2, 0, 3)), F.pad(x, (1, 2, 0, 3), mode="replicate"))
    norm, expected = GroupNorm(2, 4), nn.GroupNorm(2, 4)
    assert torch.equal(norm(x), expected(x))
    assert norm.state_dict().keys() == expected.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "kernel_size"), [*((n, 2) for n in UPSAMPLERS), ("max_unpool", 3)]
)
@pytest.mark.parametrize("size", [(9, 11), (10, 12), None])
def test_upsamplers_keep_the_layout_and_the_numbers(name, kernel_size, size):
    up = MaxUnpool(3) if kernel_size == 3 else make_upsampler(name, 4)
    pool = (kernel_size, 2, kernel_size // 3)
    image = torch.randn(2, 4, *(size or (10, 12)))
    pooled, indices = F.max_pool2d(image, *pool, ceil_mode=kernel_size == 2, return_indices=True)
    results = []
    for layout in (torch.contiguous_format, LAST):
        x = pooled.to(memory_format=layout).requires_grad_()
        found = up(x, size, indices.to(memory_format=layout))
        assert is_last(found) == (layout == LAST)
        [gradient] = torch.autograd.grad(found.square().sum(), x)
        results.append((found, gradient))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_graph_has_no_copies():
    x = torch.randn(1, 4, 5, 6).to(memory_format=LAST)
    up = make_upsampler("bed_of_nails", 4)
    graph = torch.export.export(up, (x,)).graph
    names = {str(node.target) for node in graph.nodes}
    assert not [name for name in names if "contiguous" in name or "clone" in name]
    with torch.no_grad():
        assert not is_last(torch.jit.trace(up, (x,), check_trace=False)(x))


def in_channels_last(model):
    """Move the weights, one by one: fake ones cannot be moved in place."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 4:
                moved = parameter.detach().contiguous(memory_format=LAST)
                setattr(module, name, nn.Parameter(moved))


def lost_by(model, pixels):
    """Return the modules that leave the layout, of those that have a map to lay out."""
    lost = []

    def watch(name):
        def hook(module, args, out):
            # small ones, such as the averages over an image, are laid out in either way
            large = isinstance(out, torch.Tensor) and out.ndim == 4 and min(out.shape[1:]) > 6
            if large and not is_last(out):
                lost.append((name, type(module).__name__))

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(watch(name))
    model(pixels)
    return lost


@pytest.mark.parametrize("device", ["cpu", "fake", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("size", [(64, 96), (129, 195)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_decoder_leaves_the_layout(variant, size, device, monkeypatch):
    decoder, own = VARIANTS[variant]
    options = {"encoder_options": {"width": 1 / 4}, **SMALL.get(decoder, {}), **own}
    with ExitStack() as stack:
        if device == "fake":  # lays out its results as CUDA does, and has none
            monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
            stack.enter_context(FakeTensorMode())
        stack.enter_context(torch.device("cpu" if device == "cpu" else "cuda"))
        stack.enter_context(torch.no_grad())
        model = create_model(decoder, "vgg11_bn", num_classes=8, **options)
        in_channels_last(model)
        lost = lost_by(model.train(), torch.randn(2, 3, *size).contiguous(memory_format=LAST))
    assert lost == []


def test_averages_and_scores_too():
    x = torch.randn(2, 16, 8, 9).to(memory_format=LAST)
    assert is_last(Pooled(16, 16, 1, "batch").to(memory_format=LAST)(x))
    assert is_last(ScoreHead(16, 16, 4).to(memory_format=LAST)(x, None))
