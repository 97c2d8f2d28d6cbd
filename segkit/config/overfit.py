"""The experiment that learns a few images by heart."""

from __future__ import annotations

from segkit.config.schema import Config, ConstantConfig
from segkit.errors import UserError


def to_overfit(config: Config, count: int) -> Config:
    """Judge on what is trained on, without augmentation, at one learning rate, in another folder.

    Args:
        config: the experiment.
        count: of images.

    Raises:
        UserError: no images.
    """
    if count < 1:
        raise UserError(f"--overfit is {count}; name 1 image or more, e.g. --overfit 4")
    data = config.data.model_copy(
        update={
            "val_split": config.data.train_split,
            "train_transforms": config.data.eval_transforms,
            "batch_size": min(count, config.data.batch_size),
            "cache": "none",  # laid out for the whole split
        }
    )
    train = config.train.model_copy(
        update={
            "epochs": 40,
            "accumulate": 1,
            "schedule": ConstantConfig(name="constant"),
            "freeze_encoder_epochs": 0,
            "patience": None,
        }
    )
    run_dir = f"{config.run_dir}_overfit{count}"
    return config.model_copy(update={"data": data, "train": train, "run_dir": run_dir})
