"""Runs that something happens to: their settings, and what they must end with."""

import torch

SETTINGS = {  # everything whose state could be lost: dropout, augmentation, average, schedule
    "model.decoder": {"name": "fcn", "stride": 8, "classifier": "conv", "classifier_width": 16},
    "data.train_transforms": [{"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {}}],
    "train.schedule": {"name": "cosine", "warmup_epochs": 1},
    "train.ema": 0.8,
    "train.epochs": 4,
    "train.samples": 0,
    "checkpoint.every": {"minutes": 1e-9},
}


def outcome(run):
    """All that must not depend on what happened on the way."""
    last = torch.load(run / "checkpoints/last.pt", weights_only=True)
    best = torch.load(run / "checkpoints/best.pt", weights_only=True)
    training = last["training"]
    return {
        "last": last["model"],
        "best": [best["model"], best["epoch"], best["scores"]],
        **{key: training[key] for key in ("average", "optimizer", "schedule")},
        "random": [states["torch"] for states in training["random_states"]],
        "epoch": [training["position"][key] for key in ("epoch", "step", "best_miou")],
        "table": (run / "metrics.csv").read_bytes(),
    }


def assert_equal(left, right, where=""):
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        left, right = (list(zip(side, side.values(), strict=True)) for side in (left, right))
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_equal(one, other, f"{where}/{left[number][0] if where == '' else number}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right or repr(left) == repr(right), where
