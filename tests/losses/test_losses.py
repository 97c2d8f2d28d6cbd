"""The loss against torch.nn.functional and against itself in other precisions."""

import pytest
import torch
import torch.nn.functional as F

from segkit.losses import CrossEntropy


def cross_entropy(logits, target, smoothing=0.0, class_weights=None):
    """The mean over one batch."""
    loss = CrossEntropy(smoothing, None if class_weights is None else class_weights.tolist())
    return loss(logits, target)


def batch(num_classes=4, void=0.3, seed=0, size=(3, 5, 7)):
    generator = torch.Generator().manual_seed(seed)
    count, height, width = size
    logits = 3 * torch.randn(count, num_classes, height, width, generator=generator)
    target = torch.randint(0, num_classes, size, generator=generator)
    target[torch.rand(size, generator=generator) < void] = 255
    return logits.requires_grad_(), target


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("void", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("num_classes", [2, 19])
def test_value_and_gradient_equal_torch(num_classes, void, smoothing):
    logits, target = batch(num_classes, void)
    assert (target != 255).any()
    loss = cross_entropy(logits, target, smoothing)
    expected = F.cross_entropy(logits, target, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    [gradient] = torch.autograd.grad(loss, logits)
    [expected_gradient] = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)
    assert (gradient.movedim(1, -1)[target == 255] == 0).all()


def test_the_mean_is_over_valid_pixels_not_over_images():
    logits = torch.zeros(2, 2, 1, 4)
    logits[0, 0] = 5.0
    target = torch.zeros(2, 1, 4, dtype=torch.long)
    target[1, 0, 1:] = 255
    wrong = torch.log(torch.tensor(2.0))
    right = F.softplus(torch.tensor(-5.0))
    torch.testing.assert_close(cross_entropy(logits, target), (4 * right + wrong) / 5)


@pytest.mark.parametrize("weights", [None, (0.2, 1.0, 0.0, 3.0)], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_void_alone_is_zero_with_zero_gradients(smoothing, weights):
    logits, target = batch(void=1.1)
    weights = None if weights is None else torch.tensor(weights)
    loss = cross_entropy(logits, target, smoothing, weights)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_a_class_without_weight_is_zero_with_zero_gradients(smoothing):
    logits, target = batch()
    target[target != 255] = 2
    loss = cross_entropy(logits, target, smoothing, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


WEIGHTS = {
    "uneven": (0.2, 1.0, 7.5, 3.0),
    "one class counts nothing": (1.0, 0.0, 2.0, 0.5),
    "all alike": (2.0, 2.0, 2.0, 2.0),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("void", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weighted_value_and_gradient_equal_torch(weights, void, smoothing):
    logits, target = batch(4, void)
    weights = torch.tensor(weights)
    loss = cross_entropy(logits, target, smoothing, weights)
    expected = F.cross_entropy(
        logits, target, weight=weights, ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)
    [gradient] = torch.autograd.grad(loss, logits)
    [expected_gradient] = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)
    assert (gradient.movedim(1, -1)[target == 255] == 0).all()


@pytest.mark.parametrize("num_classes", [2, 150, 254])
def test_weights_of_any_number_of_classes(num_classes):
    logits, target = batch(num_classes)
    weights = torch.rand(num_classes, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, target, weight=weights, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target, class_weights=weights), expected)


def test_weights_of_one_change_nothing():
    logits, target = batch()
    weighted = cross_entropy(logits, target, 0.1, torch.ones(4))
    torch.testing.assert_close(weighted, cross_entropy(logits, target, 0.1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_judged_in_single_precision(dtype):
    logits, target = batch(size=(2, 64, 64))
    half = logits.detach().to(dtype).requires_grad_()
    loss = cross_entropy(half, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(half.float(), target, ignore_index=255))
    loss.backward()
    assert half.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_lower_the_precision(dtype):
    logits, target = batch()
    half = logits.detach().to(dtype)
    with torch.autocast("cpu", dtype):
        loss = cross_entropy(half, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cross_entropy(half, target))


def test_large_half_precision_logits_stay_finite():
    logits = torch.full((1, 2, 8, 8), 60000.0, dtype=torch.float16)
    logits[:, 1] = -60000.0
    target = torch.ones(1, 8, 8, dtype=torch.long)
    assert cross_entropy(logits, target).item() == pytest.approx(120000, rel=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_are_those_of_finite_differences(smoothing):
    logits, target = batch(3, size=(1, 2, 3))
    # the loss computes in fp32, hence the coarse step
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(x, target, smoothing),
        (logits.detach().double().requires_grad_(),),
        eps=1e-2,
        atol=1e-3,
        rtol=1e-2,
        nondet_tol=0,
    )
