"""U-Net's deep supervision: what it scores, and what the loss makes of it."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import fcn_resnet50

from segkit.decoders import UNetDecoder
from segkit.losses import CrossEntropy
from segkit.model import all_logits, create_model
from segkit.training.step import supervised

CHANNELS, STRIDES = [8, 16, 32], [1, 2, 4]


def make(seed: int = 0, **options) -> UNetDecoder:
    torch.manual_seed(seed)
    return UNetDecoder(CHANNELS, STRIDES, 3, **options)


def maps(*sizes):
    shapes = zip(CHANNELS, sizes, strict=True)
    return [torch.randn(2, channels, *size) for channels, size in shapes]


def test_each_step_is_scored_in_training_alone():
    decoder = make(deep_supervision=True)
    seen = {}
    for number, step in enumerate(decoder.steps):
        step.register_forward_hook(lambda m, args, output, n=number: seen.update({n: output}))
    given = maps((33, 21), (16, 10), (8, 5))
    found = decoder(given)
    assert list(found) == ["out", "aux2"]
    torch.testing.assert_close(found["out"], decoder.head(seen[1]))
    expected = nn.functional.interpolate(
        decoder.aux_heads["aux2"].score(seen[0]), scale_factor=2, mode="bilinear"
    )
    expected = nn.functional.pad(expected, (0, 1, 0, 1), mode="replicate")
    found = decoder(given, sizes=[(33, 21), (16, 10)])
    torch.testing.assert_close(found["aux2"], expected)
    assert decoder(given, size=(30, 20))["aux2"].shape[-2:] == (30, 20)
    assert isinstance(decoder.eval()(given), torch.Tensor)


def test_it_changes_nothing_else():
    given = maps((32, 20), (16, 10), (8, 5))
    plain, deep = make().eval(), make(deep_supervision=True).eval()
    deep.load_state_dict(plain.state_dict() | deep.aux_heads.state_dict(prefix="aux_heads."))
    assert torch.equal(plain(given), deep(given))


def test_the_model_crops_all_of_them():
    options = {"encoder_options": {"width": 1 / 32}, "deep_supervision": True}
    model = create_model("unet", "vgg11_bn", num_classes=3, **options).train()
    output = model(torch.randn(2, 3, 33, 47))
    assert list(output) == ["out", "aux2", "aux4", "aux8"]
    assert {tuple(logits.shape) for logits in all_logits(output)} == {(2, 3, 33, 47)}


def test_weights_halve_and_add_up_to_one():
    losses = [torch.tensor(value) for value in (1.0, 3.0, 5.0)]
    assert supervised(losses).item() == pytest.approx((1 + 3 / 2 + 5 / 4) / (1 + 1 / 2 + 1 / 4))
    assert supervised(losses[:1]).item() == 1.0


def test_logits_are_found_in_a_mapping():
    logits, aux = torch.zeros(1), torch.ones(1)
    assert all_logits(logits) == [logits]
    named = {"features": torch.ones(2), "aux": aux, "out": logits, "aux_none": None}
    assert all_logits(named) == [logits, aux]


def test_a_network_of_torchvision_learns_by_its_second_head():
    model = fcn_resnet50(weights=None, weights_backbone=None, num_classes=3, aux_loss=True)
    outputs = all_logits(model(torch.randn(2, 3, 32, 32)))
    loss = CrossEntropy()
    supervised([loss(x, torch.zeros(2, 32, 32, dtype=torch.long)) for x in outputs]).backward()
    assert all(p.grad is not None for p in model.parameters())
