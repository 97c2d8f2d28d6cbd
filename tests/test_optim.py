"""Parameter groups by module type, and schedules against closed forms and torch's own."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, PolynomialLR

from segkit.config import ModelConfig, TrainConfig
from segkit.model import build_model
from segkit.optim import build_optimizer, build_schedule, learning_rate

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True}
ADAM = {"name": "adam", "lr": 2e-3, "betas": (0.8, 0.99)}
ADAMW = {"name": "adamw", "lr": 1e-3}


def train_config(optimizer=SGD, epochs=5, **rest):
    return TrainConfig.model_validate({"epochs": epochs, "optimizer": optimizer, **rest})


def tiny_model(decoder="unet", **encoder):
    options = {"name": "vgg11_bn", "width": 0.125, **encoder}
    config = ModelConfig.model_validate({"encoder": options, "decoder": {"name": decoder}})
    return build_model(config, 3)


# Groups


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW], ids=["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decoder", ["unet", "fcn", "transposed"])
def test_each_parameter_is_in_the_group_it_belongs_to(decoder, optimizer):
    model = tiny_model(decoder)
    settings = {**optimizer, "weight_decay": 0.03, "encoder_lr_factor": 0.1}
    built = build_optimizer(model, train_config(settings).optimizer.model_dump())
    where = {}
    for group in built.param_groups:
        for parameter in group["params"]:
            assert parameter not in where
            where[parameter] = group
    assert set(where) == set(model.parameters())

    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            group = where[parameter]
            spared = isinstance(module, norms) or name == "bias"
            assert group["weight_decay"] == (0 if spared else 0.03), f"{path}.{name}"
            factor = 0.1 if path.startswith("encoder") else 1
            assert group["lr"] == pytest.approx(settings["lr"] * factor), f"{path}.{name}"
    assert learning_rate(built) == settings["lr"]


def test_frozen_parameters_are_left_out():
    model = tiny_model(frozen_stages=2)
    frozen = {p for p in model.parameters() if not p.requires_grad}
    assert frozen
    built = build_optimizer(model, train_config().optimizer.model_dump())
    held = [p for group in built.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == set(model.parameters()) - frozen


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (SGD, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        (ADAM, torch.optim.Adam, {"betas": (0.8, 0.99)}),
        (ADAMW, torch.optim.AdamW, {"betas": (0.9, 0.999)}),
    ],
)
def test_settings_reach_torch(settings, kind, expected):
    built = build_optimizer(tiny_model(), train_config(settings).optimizer.model_dump())
    assert type(built) is kind
    for group in built.param_groups:
        assert {key: group[key] for key in expected} == expected
        assert group["weight_decay"] == 0


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"name": "adam", "lr": 0.1, "betas": [0.9, 1.0]}, "less than 1"),
        ({"name": "adamw", "lr": 0.1, "betas": [-0.1, 0.9]}, "or equal to 0"),
        ({"name": "sgd", "lr": 0.1, "momentum": 0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_what_torch_would_refuse_is_refused_before(settings, what):
    with pytest.raises(ValueError, match=what):
        build_optimizer(tiny_model(), train_config(settings).optimizer.model_dump())


@pytest.mark.parametrize("settings", [SGD, ADAM, ADAMW], ids=["sgd", "adam", "adamw"])
def test_a_step_is_torchs_step(settings):
    """One group a parameter, written out by hand."""
    ours, theirs = tiny_model(), tiny_model()
    theirs.load_state_dict(ours.state_dict())
    settings = {**settings, "weight_decay": 0.1, "encoder_lr_factor": 0.5}
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    rest = {k: v for k, v in settings.items() if k in ("momentum", "nesterov", "betas")}
    groups = [
        {
            "params": [p],
            "lr": settings["lr"] * (0.5 if name.startswith("encoder") else 1),
            "weight_decay": 0.1 if p.ndim > 1 else 0,
        }
        for name, p in theirs.named_parameters()
    ]
    pairs = [
        (ours, build_optimizer(ours, train_config(settings).optimizer.model_dump())),
        (theirs, kind[settings["name"]](groups, **rest)),
    ]
    for model, optimizer in pairs:
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# Schedules


def rates(config, steps_per_epoch, base=0.1, factor=0.25):
    """The learning rate of each step, and after the last; the encoder's keeps its ratio."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": parameters[:1], "lr": base}, {"params": parameters[1:], "lr": base * factor}]
    )
    schedule = build_schedule(
        optimizer, config.schedule.model_dump(), config.epochs, steps_per_epoch
    )
    seen = []
    for _ in range(config.epochs * steps_per_epoch + 1):
        assert optimizer.param_groups[1]["lr"] == pytest.approx(factor * learning_rate(optimizer))
        seen.append(learning_rate(optimizer))
        optimizer.step()
        schedule.step()
    return seen


def torchs_rates(make, total, base=0.1):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    schedule = make(optimizer)
    seen = []
    for _ in range(total + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len(seen) <= total:
                schedule.step()
    return seen


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (5, 4), (3, 1)])
def test_schedules_equal_torchs(epochs, steps):
    total = epochs * steps
    named = {
        "cosine": ({"name": "cosine"}, lambda o: CosineAnnealingLR(o, total)),
        "poly": ({"name": "poly"}, lambda o: PolynomialLR(o, total, power=0.9)),
        "poly 2": ({"name": "poly", "power": 2.0}, lambda o: PolynomialLR(o, total, 2.0)),
    }
    for schedule, make in named.values():
        ours = rates(train_config(epochs=epochs, schedule=schedule), steps)
        assert ours == pytest.approx(torchs_rates(make, total), abs=1e-9)
        assert ours[0] == pytest.approx(0.1)
        assert ours[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("peak", [0.2, 0.3, 0.75])
def test_one_cycle_equals_torchs(peak):
    total = 40
    # torch counts its phases in steps from the first to the last, we in shares of the run
    start = (peak * total + 1) / (total + 1)
    theirs = torchs_rates(
        lambda o: OneCycleLR(
            o,
            0.1,
            total + 1,
            pct_start=start,
            cycle_momentum=False,
            div_factor=25,
            final_div_factor=1e12,
        ),
        total,
    )
    ours = rates(train_config(epochs=8, schedule={"name": "onecycle", "peak": peak}), 5)
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert ours[0] == pytest.approx(0.1 / 25)
    assert max(ours) == ours[round(peak * total)] == pytest.approx(0.1)
    assert ours[-1] == pytest.approx(0, abs=1e-12)


CLOSED = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 + 0.5 * math.cos(math.pi * progress),
    "poly": lambda progress: (1 - progress) ** 0.9,
}


@pytest.mark.parametrize(("warmup_epochs", "warmup"), [(0, 0), (0.5, 3), (1, 6), (2, 12)])
@pytest.mark.parametrize("name", CLOSED)
def test_warm_up_rises_linearly_and_hands_over_at_the_full_rate(name, warmup_epochs, warmup):
    config = train_config(epochs=5, schedule={"name": name, "warmup_epochs": warmup_epochs})
    seen = rates(config, 6, base=1.0)
    expected = [(step + 1) / (warmup + 1) for step in range(warmup)]
    expected += [CLOSED[name]((step - warmup) / (30 - warmup)) for step in range(warmup, 31)]
    assert seen == pytest.approx(expected)
    assert seen[0] > 0
    assert seen[warmup] == 1


def test_the_default_schedule_is_constant():
    assert rates(train_config(epochs=2), 3) == [0.1] * 7


@pytest.mark.parametrize("name", ["constant", "cosine", "poly"])
def test_a_warm_up_longer_than_the_run_never_jumps(name):
    config = train_config(epochs=1, schedule={"name": name, "warmup_epochs": 3})
    assert rates(config, 4, base=1.0) == pytest.approx([(s + 1) / 13 for s in range(5)])
