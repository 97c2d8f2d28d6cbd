"""The experiment that learns a few images by heart."""

from __future__ import annotations

from segkit.config.schema import Config, TrainConfig
from segkit.errors import UserError


def to_overfit(config: Config, count: int) -> Config:
    """Validate on the training images, after every short epoch, at a constant learning rate."""
    if count < 1:
        raise UserError(f"--overfit is {count}; name 1 image or more, e.g. --overfit 4")
    data = config.data.model_copy(
        update={
            "val_split": config.data.train_split,
            "repeat": 1,
            "batch_size": min(count, config.data.batch_size),
            "cache": "none",  # laid out for the whole split
        }
    )
    train = config.train.model_copy(
        update={
            "epochs": 40,
            "accumulate": 1,
            "schedule": TrainConfig.model_validate(
                {"epochs": 1, "optimizer": config.train.optimizer}
            ).schedule,
            "freeze_encoder_epochs": 0,
            "validate_every": 1,
            "patience": None,
        }
    )
    run_dir = f"{config.run_dir}_overfit{count}"
    return config.model_copy(update={"data": data, "train": train, "run_dir": run_dir})
