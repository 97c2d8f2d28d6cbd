"""The contract of decoders, encoders and losses, for the test suite of any project.

Networks and images are tiny. A broken point raises an AssertionError whose sentence names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from segkit.errors import UserError
from segkit.features import Pyramid, Wants, check_strides, strides_above
from segkit.labels import IGNORE_INDEX
from segkit.model import SegmentationModel, all_logits
from segkit.receptive_field import halo_of, sees_all


def check_decoder(
    factory: Callable[..., nn.Module],
    in_channels: Sequence[int] = (4, 6, 8),
    strides: Sequence[int] = (1, 2, 4),
    num_classes: int = 3,
) -> None:
    """Check a decoder behind a small backbone of convolutions and max pools.

    Args:
        factory: the decoder's class, or `factory(in_channels, strides, num_classes)`.
        in_channels: channels of the maps, finest first, and with them their `strides`.
    """
    torch.manual_seed(0)
    backbone, top = _Backbone(in_channels, strides), strides[-1]

    def build() -> SegmentationModel:
        return SegmentationModel(backbone, factory(list(in_channels), list(strides), num_classes))

    model = build()
    for size in ((2 * top, 4 * top), (3 * top - 1, 2 * top + 1)):
        maps, recorded, indices = backbone(torch.randn(2, 3, *size))
        for mode in ("train", "eval"):
            model.train(mode == "train")
            for sizes in (recorded, None) if size[0] % top == 0 else (recorded,):
                with _point(f"logits are finite and as large as the image, {size}, in {mode} mode"):
                    for logits in all_logits(model.decoder(maps, sizes, indices)):
                        assert logits.shape == (2, num_classes, *size), f"not {tuple(logits.shape)}"
                        assert logits.isfinite().all()
    _check_network(build, torch.randn(2, 3, 2 * top, 4 * top), "decoder.")
    with _point("size=(H, W) crops the logits at the bottom and right"):
        logits = model.decoder(maps, recorded, indices)
        assert torch.equal(model.decoder(maps, recorded, indices, size=(5, 3)), logits[..., :5, :3])
    if not sees_all(model) and not any(isinstance(m, nn.GroupNorm) for m in model.modules()):
        with _point("a tile with a halo gives the logits of the whole image, or sees_all is True"):
            _check_tiles(model.eval())


def check_encoder(factory: Callable[..., nn.Module]) -> None:
    """Check the encoder `factory(wants, in_channels=3)` in each role a decoder may ask for."""

    def ask(wants: Wants, in_channels: int = 3) -> Any:
        try:
            encoder = factory(wants, in_channels=in_channels)
        except UserError:
            return None  # a refusal in a sentence is an answer too
        _check_answer(encoder, wants, in_channels)
        return encoder

    torch.manual_seed(0)
    roles = [Wants(), Wants(place="after_pool")]
    roles += [role._replace(coarsest=True) for role in roles]
    roles += [role._replace(indices=True) for role in roles[:2]]
    with _point("maps answer what is wanted, or a UserError says why they cannot"):
        answers = [(role, ask(role)) for role in roles]
        wants, encoder = next((a for a in answers if a[1] is not None), answers[0])
        assert encoder is not None, "every role was refused"
        ask(wants._replace(strides=tuple(spec.stride for spec in encoder.specs)[1:]))
        assert ask(Wants((2**20,))) is None, "a map of stride 2**20 was promised"
    for channels in (1, 5):
        with _point(f"images may have {channels} channels"):
            assert ask(wants, channels) is not None, "they were refused"
    image = torch.randn(2, 3, 2 * encoder.stride, 3 * encoder.stride)
    _check_network(lambda: _Maps(factory(wants, in_channels=3)), image, "")


def check_loss(factory: Callable[[], Callable[..., Tensor]], num_classes: int = 4) -> None:
    """Check the loss that `factory()` builds, called as `loss(logits, target)`."""
    torch.manual_seed(0)
    loss: Any = factory()
    logits = torch.randn(3, num_classes, 6, 5)
    target = torch.randint(0, num_classes, (3, 6, 5))
    target[0, :2] = target[1, :, 3:] = IGNORE_INDEX
    void = (target == IGNORE_INDEX).unsqueeze(1).expand_as(logits)

    def graded(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits.clone().requires_grad_()
        value = loss(logits, target)
        assert value.shape == (), f"the shape is {tuple(value.shape)}"
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite(), f"the loss is {value.item()}"
        assert gradient.isfinite().all(), "the gradient is not finite"
        return value.detach(), gradient

    with _point("the loss is a finite scalar with a finite gradient"):
        value, gradient = graded(logits, target)
        assert gradient.any(), "the gradient is zero"
    with _point("pixels of the target that are void count nowhere"):
        assert not gradient[void].any(), "the gradient of their logits is not zero"
        assert_close(loss(logits.masked_fill(void, 3.0), target), value)
    with _point("a batch of nothing but void has a finite loss and no gradient"):
        assert not graded(logits, torch.full_like(target, IGNORE_INDEX))[1].any()
    with _point("logits in bf16 give nearly the same loss"):
        assert_close(graded(logits.bfloat16(), target)[0].float(), value, rtol=0.05, atol=0.05)
    with _point("the order of the images does not matter"):
        assert_close(graded(logits.flip(0), target.flip(0))[0], value)
    if hasattr(loss, "terms"):
        with _point("terms and normalizers of parts add up to the loss of the batch"):
            parts = list(zip(logits.split(2), target.split(2), strict=True))
            terms = torch.stack([loss.terms(*part) for part in parts]).sum(0)
            divisor = torch.stack([loss.normalizer(part) for _, part in parts]).sum(0)
            assert_close((terms / divisor)[divisor > 0].sum(), value, check_dtype=False)


@contextmanager
def _point(sentence: str) -> Iterator[None]:
    """Name the point of the contract that the block checks, however it fails."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"broken: {sentence}; {type(error).__name__}: {error}") from error


class _Backbone(nn.Module):
    """Convolutions and max pools whose maps and indices have the given channels and strides."""

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.stride, self.tapped = strides[-1], set(strides)
        self.octaves = [*reversed(strides_above(self.stride)), self.stride]
        self.pool = nn.MaxPool2d(2, return_indices=True)
        pairs = list(zip(in_channels, strides, strict=True))
        at = [next(c for c, stride in pairs if stride >= octave) for octave in self.octaves]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip([3, *at], at, strict=False)
        )

    def forward(self, x: Tensor) -> Pyramid:
        maps, sizes, indices = [], [], []
        for octave, conv in zip(self.octaves, self.convs, strict=True):
            x = conv(x)
            if octave > 1:
                sizes.append((x.shape[-2], x.shape[-1]))
                x, argmax = self.pool(x)
                indices.append(argmax)
            if octave in self.tapped:
                maps.append(x)
        return Pyramid(maps, sizes, indices)


class _Maps(nn.Sequential):  # an encoder that returns its maps alone
    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self[0](x).maps)


def _check_answer(encoder: Any, wants: Wants, in_channels: int) -> None:
    """Check that declared and returned maps agree with each other and with what was wanted."""
    channels, strides = zip(*((s.channels, s.stride) for s in encoder.specs), strict=True)
    check_strides(channels, strides)
    step = encoder.stride
    assert step % strides[-1] == 0, f"its stride is {step}, but its maps have {strides}"
    fitting = len(strides) == 1 if wants.coarsest else wants.strides in (None, strides)
    assert fitting, f"{wants} was answered by strides {strides}"
    for size in ((2 * step, 3 * step), (2 * step + 1, 3 * step - 1)):
        maps, sizes, indices = encoder(torch.randn(2, in_channels, *size))
        found = tuple(m.shape[1] for m in maps)
        assert found == channels, f"maps have channels {found}, but specs promise {channels}"
        grids = [(s, tuple(m.shape[-2:])) for s, m in zip(strides, maps, strict=True)]
        grids += [(s, sizes[s.bit_length() - 1]) for s in strides_above(strides[-1])]
        for s, grid in grids:
            fits = (a // s <= side <= -(-a // s) for a, side in zip(size, grid, strict=True))
            assert all(fits), f"at stride {s}, an image of {size} has a grid of {grid}"
        assert (indices is not None) == wants.indices, f"{wants}, but indices are {indices}"
        for argmax, (height, width) in zip(indices or (), sizes, strict=False):
            assert 0 <= argmax.min() <= argmax.max() < height * width, "indices lead nowhere"


def _check_network(build: Callable[[], nn.Module], image: Tensor, part: str) -> None:
    """Check what holds for every network; only parameters below `part` must learn."""

    def outputs(network: Callable[[Tensor], Any], x: Tensor = image) -> list[Tensor]:
        found = network(x)
        return list(found) if isinstance(found, list) else all_logits(found)

    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        network = build().train()
        runs.append([*network.state_dict().values(), *(x.detach() for x in outputs(network))])
    with _point("the same seed gives the same weights and the same output in training"):
        assert all(map(torch.equal, *runs))
    learning = [p for name, p in network.named_parameters() if name.startswith(part)]
    for parameter in learning:  # a norm whose scale starts at zero would hide what is before it
        if parameter.ndim < 2 and not parameter.any():
            parameter.data.normal_()
    for _ in range(8):  # stochastic depth may leave out a block in one pass
        with _point("gradients come through"):
            torch.stack([x.square().mean() for x in outputs(network)]).sum().backward()
        if all(p.grad is not None and p.grad.any() for p in learning if p.requires_grad):
            break
    for name, parameter in network.named_parameters():
        if name.startswith(part) and parameter.requires_grad:
            with _point(f"every parameter gets a gradient, {name.removeprefix(part)} too"):
                assert parameter.grad is not None, "it gets none"
                assert parameter.grad.isfinite().all(), "it is not finite"
                # a norm may cancel the gradient of the bias before it
                assert parameter.ndim < 2 or parameter.grad.any(), "it is zero"
    network.eval()
    with torch.no_grad():
        expected = outputs(network)
        with _point("in eval mode, the same image gives the same bits"):
            assert all(map(torch.equal, outputs(network), expected))
        with _point("channels_last gives the same numbers"):
            _check_same(outputs(network, image.to(memory_format=torch.channels_last)), expected)
        with _point("bf16 autocast gives finite numbers"), torch.autocast("cpu", torch.bfloat16):
            assert all(x.isfinite().all() for x in outputs(network))
        with _point("torch.export gives the same numbers"):
            _check_same(outputs(torch.export.export(network, (image,)).module()), expected)


def _check_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):  # up to rounding, which grows with the numbers
        assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(b.abs().max())))


@torch.no_grad()
def _check_tiles(model: SegmentationModel) -> None:
    halo = halo_of(model, 3)
    assert halo is not None, "every logit depends on the whole image"
    before, after = (-(-side // model.stride) * model.stride for side in halo)
    tile, margin = 4 * model.stride, 8 * model.stride
    for axis in (2, 3):
        size = [2 * model.stride, 2 * model.stride]
        size[axis - 2] = margin + before + tile + after + margin
        image = torch.randn(1, 3, *size)
        found = model(image.narrow(axis, margin, before + tile + after))
        expected = model(image).narrow(axis, margin + before, tile)
        assert_close(found.narrow(axis, before, tile), expected, rtol=1e-4, atol=1e-4)
