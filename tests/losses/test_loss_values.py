"""Every loss against an oracle written from its paper, and what all of them must hold to."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.config import dump_config, load_config
from segkit.data.card import load_card
from segkit.data.reader import SampleReader
from segkit.data.statistics import compute_statistics, statistics_lines
from segkit.errors import UserError
from segkit.experiment import build_loss
from segkit.losses import (
    OHEM,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    LovaszSoftmax,
    mean_loss,
)
from segkit.registry import names

VOID = 255
LOSSES = ("cross_entropy", "dice", "cross_entropy_dice", "focal", "lovasz", "ohem")
WEIGHTS = (0.3, 1.7, 0.9, 2.1)  # none of the sums of these is exact

VARIANTS = {
    "cross_entropy": CrossEntropy,
    "cross_entropy-smooth-weighted": lambda: CrossEntropy(0.1, WEIGHTS),
    "focal": Focal,
    "focal-root-weighted": lambda: Focal(0.5, WEIGHTS),
    "dice": Dice,
    "dice-smooth": lambda: Dice(1.5),
    "cross_entropy_dice": CrossEntropyDice,
    "cross_entropy_dice-weighted": lambda: CrossEntropyDice(0.1, WEIGHTS, 0.3),
    "lovasz": LovaszSoftmax,
    "ohem": OHEM,
    "ohem-weighted": lambda: OHEM(0.4, WEIGHTS),
}
every_loss = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def scene(size=(4, 5, 6), num_classes=4, seed=0, dtype=torch.float64):
    """Logits and truth; void takes a growing share of the images, and class 2 is in the last alone.

    The third image is void but for two pixels, of one class.
    """
    generator = torch.Generator().manual_seed(seed)
    count, height, width = size
    shape = (count, num_classes, height, width)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.randint(0, num_classes, size, generator=generator)
    target[:-1][target[:-1] == 2] = 0
    share = torch.linspace(0, 0.6, count)[:, None, None]
    target[torch.rand(size, generator=generator) < share] = VOID
    if count > 2:
        target[2] = VOID
        target[2, 0, :2] = 1
    return logits.to(dtype).requires_grad_(), target


def value(loss, logits, target):
    return loss(logits, target)


def value_and_gradient(loss, logits, target):
    result = value(loss, logits, target)
    return result, torch.autograd.grad(result, logits)[0]


def in_numpy(logits, target):
    """Give log-probabilities `(N, H * W, C)` and truth `(N, H * W)`, in float64."""
    x = logits.detach().double().numpy()
    x = x - x.max(1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    return logs.reshape(*x.shape[:2], -1).transpose(0, 2, 1), target.flatten(1).numpy()


# Each loss and its oracle.


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_that_of_torch(dtype, smoothing, weights):
    logits, target = scene(dtype=dtype)
    found, gradient = value_and_gradient(CrossEntropy(smoothing, weights).to(dtype), logits, target)
    table = None if weights is None else torch.tensor(weights).to(dtype)
    expected = F.cross_entropy(
        logits, target, table, ignore_index=VOID, label_smoothing=smoothing, reduction="mean"
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_is_that_of_the_paper(gamma, weights):
    logits, target = scene()
    logs, truth = in_numpy(logits, target)
    total = divisor = 0.0
    for image, label in np.argwhere(truth != VOID):
        c = truth[image, label]
        alpha = 1.0 if weights is None else weights[c]
        total += -alpha * (1 - math.exp(logs[image, label, c])) ** gamma * logs[image, label, c]
        divisor += alpha
    found = value(Focal(gamma, weights).double(), logits, target)
    assert found.item() == pytest.approx(total / divisor, rel=1e-6)  # weights are given in fp32


@pytest.mark.parametrize("smooth", [0.0, 1.0, 10.0])
def test_dice_is_that_of_the_paper(smooth):
    logits, target = scene()
    logs, truth = in_numpy(logits, target)
    images = []
    for p, t in zip(np.exp(logs), truth, strict=True):
        classes = []
        for c in sorted(set(t.tolist()) - {VOID}):
            both = predicted = true = 0.0
            for pixel in range(len(t)):
                if t[pixel] != VOID:
                    predicted += p[pixel, c]
                    true += t[pixel] == c
                    both += p[pixel, c] * (t[pixel] == c)
            classes.append(1 - (2 * both + smooth) / (predicted + true + smooth))
        images.append(sum(classes) / len(classes))
    found = value(Dice(smooth), logits, target)
    assert found.item() == pytest.approx(np.mean(images), rel=1e-12)


@pytest.mark.parametrize("dice_share", [0.0, 0.3, 1.0])
def test_cross_entropy_dice_is_their_mixture(dice_share):
    logits, target = scene()
    found = value_and_gradient(CrossEntropyDice(0.1, WEIGHTS, dice_share), logits, target)
    pixels = value_and_gradient(CrossEntropy(0.1, WEIGHTS), logits, target)
    images = value_and_gradient(Dice(), logits, target)
    for mixed, one, other in zip(found, pixels, images, strict=True):
        torch.testing.assert_close(mixed, (1 - dice_share) * one + dice_share * other)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 1.0])
def test_ohem_takes_the_hardest_pixels_of_each_image(share, weights):
    logits, target = scene()
    logs, truth = in_numpy(logits, target)
    table = (1.0,) * 4 if weights is None else weights
    total = divisor = 0.0
    kept = np.zeros(truth.shape, bool)
    for image, t in enumerate(truth):
        valid = np.flatnonzero(t != VOID)
        losses = {i: -table[t[i]] * logs[image, i, t[i]] for i in valid}
        hardest = sorted(losses, key=losses.get, reverse=True)[: math.ceil(share * len(valid))]
        kept[image, hardest] = True
        total += sum(losses[i] for i in hardest)
        divisor += len(hardest) * np.mean([table[t[i]] for i in valid])
    found, gradient = value_and_gradient(OHEM(share, weights).double(), logits, target)
    assert found.item() == pytest.approx(total / divisor, rel=1e-6)  # weights are given in fp32
    assert np.array_equal(gradient.abs().sum(1).flatten(1).numpy() > 0, kept)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ohem_of_all_pixels_is_cross_entropy(weights):
    logits, target = scene()
    found = value_and_gradient(OHEM(1.0, weights).double(), logits, target)
    expected = value_and_gradient(CrossEntropy(0.0, weights).double(), logits, target)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("share", "valid", "kept"),
    [(0.1, 30, 3), (0.1, 31, 4), (0.7, 10, 7), (0.3, 10, 3), (0.25, 1, 1), (1e-6, 30, 1)],
)
def test_ohem_keeps_the_share_rounded_up_even_where_all_are_as_hard(share, valid, kept):
    target = torch.full((1, 5, 8), VOID)
    target.view(-1)[-valid:] = 1
    logits = torch.zeros(1, 3, 5, 8, requires_grad=True)
    loss = OHEM(share)
    assert loss.normalizer(target).tolist() == [kept]
    found, gradient = value_and_gradient(loss, logits, target)
    assert found.item() == pytest.approx(math.log(3))
    assert (gradient.abs().sum(1) > 0).sum() == kept


def jaccard_gradient(hits):
    """Algorithm 1 of Berman et al., for pixels sorted by falling error."""
    count = hits.sum()
    intersection = count - hits.cumsum()
    union = count + (1 - hits).cumsum()
    jaccard = 1 - intersection / union
    jaccard[1:] -= jaccard[:-1].copy()
    return jaccard


def lovasz_oracle(logits, target):
    logs, truth = in_numpy(logits, target)
    images = []
    for p, t in zip(np.exp(logs), truth, strict=True):
        p, t = p[t != VOID], t[t != VOID]
        classes = []
        for c in np.unique(t):
            hits = (t == c).astype(float)
            errors = abs(hits - p[:, c])
            order = np.argsort(-errors)
            classes.append(errors[order] @ jaccard_gradient(hits[order]))
        if len(t):
            images.append(np.mean(classes))
    return np.mean(images)


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_is_the_published_algorithm(seed):
    logits, target = scene(seed=seed)
    assert value(LovaszSoftmax(), logits, target).item() == pytest.approx(
        lovasz_oracle(logits, target), rel=1e-12
    )


def test_lovasz_is_the_steepest_of_all_orders():
    """What makes it the convex closure: it is the largest sum that any order of the pixels gives.

    (Edmonds' greedy algorithm, for the Jaccard loss as a set function of the mispredicted pixels.)
    """
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 2, 1, 6, generator=generator, dtype=torch.float64)
    target = torch.tensor([[[0, 1, 1, 0, 1, VOID]]])
    probabilities, truth = logits.softmax(1)[0, :, 0, :5].numpy(), target[0, 0, :5].numpy()

    def jaccard_loss(wrong, hits):
        intersection = sum(hits[i] and i not in wrong for i in range(5))
        union = sum(hits[i] or i in wrong for i in range(5))
        return 1 - intersection / union

    steepest = []
    for c in (0, 1):
        hits = truth == c
        errors = abs(hits - probabilities[c])
        sums = []
        for order in itertools.permutations(range(5)):
            steps = [jaccard_loss(order[: i + 1], hits) for i in range(5)]
            sums.append(errors[list(order)] @ np.diff([0.0, *steps]))
        steepest.append(max(sums))
    found = value(LovaszSoftmax(), logits, target).item()
    assert found == pytest.approx(np.mean(steepest), rel=1e-12)


def one_hot_logits(prediction, num_classes):
    return 1e4 * F.one_hot(prediction, num_classes).movedim(-1, 1).double()


def test_lovasz_and_dice_of_hard_predictions_are_one_minus_iou_and_dice():
    _, target = scene(size=(4, 8, 9))
    generator = torch.Generator().manual_seed(5)
    prediction = torch.randint(0, 4, target.shape, generator=generator)
    lovasz, dice = [], []
    for p, t in zip(prediction.numpy(), target.numpy(), strict=True):
        p, t = p[t != VOID], t[t != VOID]
        classes = [(p == c, t == c) for c in np.unique(t)]
        lovasz.append(np.mean([1 - (a & b).sum() / (a | b).sum() for a, b in classes]))
        dice.append(np.mean([1 - 2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in classes]))
    logits = one_hot_logits(prediction, 4)
    assert value(LovaszSoftmax(), logits, target).item() == pytest.approx(np.mean(lovasz))
    assert value(Dice(), logits, target).item() == pytest.approx(np.mean(dice))


@every_loss
def test_a_perfect_prediction_costs_nothing(make):
    loss = make()
    if getattr(loss, "label_smoothing", 0) or hasattr(loss, "cross_entropy"):
        pytest.skip("label smoothing wants no certainty")
    _, target = scene()
    logits = one_hot_logits(torch.where(target == VOID, 0, target), 4)
    assert value(loss, logits, target).item() == 0


def test_lovasz_keeps_its_digits_on_large_images():
    logits, target = scene(size=(1, 512, 512), num_classes=2)
    _, expected = value_and_gradient(LovaszSoftmax(), logits, target)
    single = logits.detach().float().requires_grad_()
    _, gradient = value_and_gradient(LovaszSoftmax(), single, target)
    error = (gradient.double() - expected).abs().quantile(0.99) / expected.abs().median()
    assert error < 1e-4  # 3e-2 where differences of losses near 1 are taken


# What all of them hold to.


@every_loss
def test_gradients_are_those_of_finite_differences(make):
    logits, target = scene(size=(3, 2, 3))
    assert (target == VOID).any()
    loss = make()
    assert torch.autograd.gradcheck(lambda x: value(loss, x, target), (logits,), nondet_tol=0)


@every_loss
@pytest.mark.parametrize("cut", [(1, 1, 1, 1), (2, 2), (1, 3)])
def test_a_batch_may_be_cut_anywhere(make, cut):
    logits, target = scene()
    target[1] = VOID  # a part may have no valid pixel at all
    loss = make().double()
    whole, gradient = value_and_gradient(loss, logits, target)
    parts = list(zip(logits.split(cut), target.split(cut), strict=True))
    weights = sum(loss.normalizer(t) for _, t in parts)
    torch.testing.assert_close(weights, loss.normalizer(target), rtol=1e-12, atol=0)
    parted = mean_loss(sum(loss.terms(x, t) for x, t in parts), weights)
    torch.testing.assert_close(parted, whole, rtol=0, atol=1e-10)
    [found] = torch.autograd.grad(parted, logits)
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)
    # and step by step, as the loop does it: the weights first, then one part after the other
    [found] = torch.autograd.grad(
        sum(mean_loss(loss.terms(x, t), weights) for x, t in parts), logits
    )
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


@every_loss
def test_sums_and_weights_have_one_place_a_term(make):
    logits, target = scene(dtype=torch.float32)
    loss = make()
    terms = 2 if isinstance(loss, CrossEntropyDice) else 1
    for numbers in (loss.terms(logits, target), loss.normalizer(target)):
        assert numbers.shape == (terms,)
        assert numbers.dtype == torch.float32
    assert not loss.normalizer(target).requires_grad


@every_loss
def test_void_counts_nowhere(make):
    logits, target = scene()
    loss = make().double()
    before, gradient = value_and_gradient(loss, logits, target)
    void = (target == VOID)[:, None].expand_as(logits)
    assert (gradient[void] == 0).all()
    assert (gradient[~void] != 0).any()
    generator = torch.Generator().manual_seed(3)
    noise = 30 * torch.randn(logits.shape, generator=generator, dtype=logits.dtype)
    after = value(loss, torch.where(void, noise, logits), target)
    torch.testing.assert_close(after, before, rtol=1e-12, atol=0)
    # nor do a frame of void around each image, or an image of void alone
    target = torch.cat([F.pad(target, (1, 2, 1, 0), value=VOID), torch.full((1, 6, 9), VOID)])
    logits = F.pad(torch.cat([logits, noise[:1]]), (1, 2, 1, 0), value=5.0)
    torch.testing.assert_close(value(loss, logits, target), before, rtol=1e-12, atol=0)


@every_loss
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_batch_of_void_alone_is_zero_with_zero_gradients(make, scale):
    logits, target = scene(dtype=torch.float32)
    logits = (scale * logits.detach()).requires_grad_()
    found, gradient = value_and_gradient(make(), logits, torch.full_like(target, VOID))
    assert found.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@every_loss
def test_no_image_at_all_is_zero(make):
    logits = torch.zeros(0, 4, 5, 6, requires_grad=True)
    found, _ = value_and_gradient(make(), logits, torch.zeros(0, 5, 6, dtype=torch.long))
    assert found.item() == 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("matching", ["random", "right", "wrong"])
def test_extreme_logits_and_absent_classes_stay_finite(make, dtype, matching):
    _, target = scene()
    prediction = torch.randint(0, 4, target.shape, generator=torch.Generator().manual_seed(2))
    if matching != "random":
        right = torch.where(target == VOID, 0, target)
        prediction = right if matching == "right" else (right + 1) % 2  # none of class 2
    logits = (2 * one_hot_logits(prediction, 4) - 1e4).to(dtype).requires_grad_()
    found, gradient = value_and_gradient(make(), logits, target)
    assert found.isfinite()
    assert gradient.isfinite().all()


@every_loss
def test_a_truth_of_one_class_is_fine(make):
    logits, target = scene(dtype=torch.float32)
    found, gradient = value_and_gradient(make(), logits, torch.where(target == VOID, VOID, 3))
    assert found > 0
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_do_not_lower_the_precision(make, dtype):
    logits, target = scene(size=(2, 32, 32))
    half = logits.detach().to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    loss = make()
    expected, gradient = value_and_gradient(loss, full, target)
    found, half_gradient = value_and_gradient(loss, half, target)
    with torch.autocast("cpu", dtype):
        inside = value(loss, half, target)
        weights = loss.normalizer(target)
    assert found.dtype == inside.dtype == weights.dtype == torch.float32
    assert half_gradient.dtype == dtype
    assert found.item() == inside.item() == expected.item()
    assert torch.equal(half_gradient, gradient.to(dtype))


def test_a_term_without_weight_is_nothing():
    sums = torch.tensor([3.0, 5.0], requires_grad=True)
    found = mean_loss(sums, torch.tensor([2.0, 0.0]))
    assert found.item() == 1.5
    assert torch.autograd.grad(found, sums)[0].tolist() == [0.5, 0.0]


@pytest.mark.gpu
@every_loss
@pytest.mark.usefixtures("deterministic_algorithms")
def test_cuda_gives_the_same_numbers_every_time(make):
    logits, target = scene(size=(4, 64, 64))
    expected = value_and_gradient(make().double(), logits, target)
    loss, logits, target = make().double().cuda(), logits.detach().cuda(), target.cuda()
    first, second = (
        value_and_gradient(loss, logits.clone().requires_grad_(), target) for _ in range(2)
    )
    for a, b, c in zip(first, second, expected, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a.cpu(), c)


# Where they come from: the schema.


def loaded(tiny_config, loss):
    return load_config(tiny_config({"train.loss": loss})).train.loss.model_dump()


def test_the_schema_knows_every_loss():
    assert names("loss") == list(LOSSES)


@pytest.mark.parametrize(
    ("section", "kind", "options"),
    [
        ({}, CrossEntropy, {"label_smoothing": 0.0}),
        ({"label_smoothing": 0.2}, CrossEntropy, {"label_smoothing": 0.2}),
        ({"name": "cross_entropy", "label_smoothing": 0.3}, CrossEntropy, {"label_smoothing": 0.3}),
        ({"name": "focal"}, Focal, {"gamma": 2.0}),
        ({"name": "focal", "gamma": 3}, Focal, {"gamma": 3.0}),
        ({"name": "dice"}, Dice, {"smooth": 0.0}),
        ({"name": "dice", "smooth": 1}, Dice, {"smooth": 1.0}),
        ({"name": "cross_entropy_dice"}, CrossEntropyDice, {"dice_share": 0.5}),
        ({"name": "cross_entropy_dice", "dice_share": 0.9}, CrossEntropyDice, {"dice_share": 0.9}),
        ({"name": "lovasz"}, LovaszSoftmax, {}),
        ({"name": "ohem"}, OHEM, {"share": 0.25}),
        ({"name": "ohem", "share": 0.1}, OHEM, {"share": pytest.approx(0.1)}),
    ],
)
def test_a_loss_is_built_from_its_section(section, kind, options, tiny_config):
    loss = build_loss(loaded(tiny_config, section))
    assert type(loss) is kind
    for name, expected in options.items():
        assert getattr(loss, name) == expected


def test_the_default_is_cross_entropy(tiny_config):
    assert type(build_loss(load_config(tiny_config()).train.loss.model_dump())) is CrossEntropy


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "cross_entropy_dice", "ohem"])
def test_class_weights_move_with_the_loss_and_stay_out_of_checkpoints(name, tiny_config):
    loss = build_loss(loaded(tiny_config, {"name": name, "class_weights": [1, 2, 3]}))
    assert loss.state_dict() == {}
    [buffer] = loss.buffers()
    assert buffer.dtype == torch.float32
    assert buffer.tolist() == [1, 2, 3]
    [moved] = loss.to("meta").buffers()
    assert moved.is_meta
    for weights in ({}, {"class_weights": "none"}):
        assert list(build_loss(loaded(tiny_config, {"name": name, **weights})).buffers()) == []


def test_label_smoothing_of_the_mixture_reaches_its_cross_entropy(tiny_config):
    loss = build_loss(loaded(tiny_config, {"name": "cross_entropy_dice", "label_smoothing": 0.1}))
    assert loss.cross_entropy.label_smoothing == 0.1


def test_class_weights_must_be_numbers_by_then():
    options = {"name": "focal", "class_weights": "median_frequency"}
    with pytest.raises(UserError, match="is median_frequency, which is computed from a data set"):
        build_loss(options)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "focla"}, "train.loss.name is 'focla'; did you mean 'focal'? Known: cross_entr"),
        (
            {"name": "tversky"},
            "Known: cross_entropy, dice, cross_entropy_dice, focal, lovasz, ohem",
        ),
        ({"name": "focal", "gama": 1}, "train.loss.gama is an unknown key; did you mean 'gamma'?"),
        ({"gamma": 1}, "train.loss.gamma is an unknown key; known here: name, label_smoothing"),
        ({"nmae": "dice"}, "train.loss.nmae is an unknown key; did you mean 'name'?"),
        ({"name": "dice", "class_weights": "none"}, "train.loss.class_weights is an unknown key"),
        ({"name": "focal", "gamma": -1}, "train.loss.gamma is -1: input should be greater than"),
        ({"name": "dice", "smooth": -1}, "train.loss.smooth is -1: input should be greater than"),
        ({"name": "ohem", "share": 0}, "train.loss.share is 0: input should be greater than"),
        ({"name": "ohem", "share": 1.1}, "train.loss.share is 1.1: input should be less than"),
        (
            {"name": "cross_entropy_dice", "dice_share": 1.5},
            "train.loss.dice_share is 1.5: input should be less than",
        ),
    ],
)
def test_an_unfit_section_is_told_with_its_line(section, message, tiny_config):
    path = tiny_config({"train.loss": section})
    line = 1 + path.read_text(encoding="utf-8").split("loss:")[0].count("\n")
    with pytest.raises(UserError) as refusal:
        load_config(path)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}:")
    assert 0 <= int(str(refusal.value).split(":")[1]) - line <= len(section)


@pytest.mark.parametrize("name", LOSSES)
def test_a_section_survives_the_round_trip(name, tiny_config, tmp_path):
    config = load_config(tiny_config({"train.loss": {"name": name}}))
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("name", LOSSES)
def test_statistics_are_resolved_for_every_loss(name, tiny_config, tiny_set):
    card = load_card(tiny_set.card)
    config = load_config(tiny_config({"train.loss": {"name": name}}))
    statistics = compute_statistics(config, SampleReader(card, "train"))
    assert statistics.class_weights is None
    assert statistics_lines(config, statistics, card.class_names) == []
    build_loss(config.train.loss.model_dump(), statistics.class_weights)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "cross_entropy_dice", "ohem"])
def test_class_weights_by_name_become_numbers(name, tiny_config, tiny_set):
    card = load_card(tiny_set.card)
    section = {"name": name, "class_weights": "inverse_frequency"}
    config = load_config(tiny_config({"train.loss": section, "data.root": str(tiny_set.root)}))
    statistics = compute_statistics(config, SampleReader(card, "train"))
    loss = build_loss(config.train.loss.model_dump(), statistics.class_weights)
    [buffer] = loss.buffers()
    assert buffer.shape == (3,)
    assert buffer.argmin() == 0  # there is more ground than anything else
    lines = statistics_lines(config, statistics, card.class_names)
    assert lines[0].startswith("weights  ground ")


# And what it is for.


def rare_discs(count, seed):
    """Noise with one or two brighter discs an image, on 1 % of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    size = 48
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    target = torch.zeros(count, size, size, dtype=torch.long)
    for image in target:
        for _ in range(int(torch.randint(1, 3, (), generator=generator))):
            y, x = (4 + 40 * torch.rand(2, generator=generator)).tolist()
            image[(rows - y) ** 2 + (columns - x) ** 2 < 2.3**2] = 1
    noise = torch.randn(count, 1, size, size, generator=generator)
    return noise + 4.0 * target[:, None], target


def foreground_iou(loss, steps):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 2, 3, padding=1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    images, targets = rare_discs(64, seed=1)
    for step in range(steps):
        first = 8 * step % 64
        batch, target = images[first : first + 8], targets[first : first + 8]
        optimizer.zero_grad()
        value(loss, model(batch), target).backward()
        optimizer.step()
    images, targets = rare_discs(64, seed=2)
    with torch.no_grad():
        found = model(images).argmax(1) == 1
    truth = targets == 1
    return ((found & truth).sum() / (found | truth).sum()).item()


def test_cross_entropy_dice_finds_one_pixel_in_a_hundred():
    _, target = rare_discs(64, seed=1)
    assert 0.008 < (target == 1).double().mean() < 0.012
    assert foreground_iou(CrossEntropyDice(), steps=100) > 0.8  # 0.91 to 0.93 for five seeds
    assert foreground_iou(CrossEntropy(), steps=100) < 0.5  # still calls everything background
