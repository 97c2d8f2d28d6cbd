"""Checkpoints: one file that rebuilds the model and its preprocessing, written whole or not at all.

    {"format": 1, "config": {...}, "card": {...}, "model": state dict, "epoch": 3, "scores": {...}}

and, in `last.pt`, `"training"`: all that going on needs. Plain types and tensors only, so that
`weights_only=True` reads them. A folder of `segkit.model_folder`, here or on the hub, holds the
same but for the training, and loads alike.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkit.checkpoint_schema import checked_content
from segkit.config import Config, locate_card, parse_config
from segkit.data.card import Card
from segkit.data.statistics import Statistics
from segkit.errors import UserError, shorten
from segkit.files import replacing
from segkit.hub import Source, download, is_address, parse_address
from segkit.invocation import import_hint
from segkit.model import SegmentationModel, build_model
from segkit.model_folder import DESCRIPTION, WEIGHTS, is_model_folder, read_model_folder
from segkit.network_size import at_most
from segkit.tensor_files import read_torch_file

FORMAT = 2
READABLE = (1, 2)  # format 1 kept the computed numbers in its config
GPUS = ("CUDA", "HIP", "MPS")  # words of their errors
SPARE_VALUES, SPARE_TENSORS = 100_000_000, 1000
BEST, LAST, PREVIOUS = "best.pt", "last.pt", "previous.pt"


def save_checkpoint(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint whole or not at all, and keep the file that was there at `previous`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, previous=previous, durable=True) as temporary:
            torch.save({"format": FORMAT, **content}, temporary)
    except (OSError, RuntimeError) as error:
        # torch's writer turns a full disk into this, but an error of a GPU may come to light here
        if isinstance(error, RuntimeError) and any(gpu in str(error) for gpu in GPUS):
            raise
        raise UserError(f"cannot write {path}: {error}; the file before it is untouched") from error


def load_checkpoint(source: Source) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: a file, a model's folder, or one on the hub."""
    if is_address(source):
        content = read_model_folder(_download(source))
    elif Path(source).is_dir():
        content = read_model_folder(Path(source))
    else:
        content = _read_file(Path(source))
    number = content["format"]
    if type(number) is not int or number not in READABLE:
        shown = shorten(number) if isinstance(number, (int, str)) else type(number).__name__
        raise UserError(
            f"{source} has checkpoint format {shown}, this segkit reads {FORMAT}; "
            "use the version that wrote it"
        )
    return checked_content(content, source)


def _download(source: Source) -> Path:
    """Return the folder of the hub's cache that a model was downloaded to."""
    address = parse_address(source)
    if address.file:
        raise UserError(f"{source} names a file; name the model: hf://{address.repo}")
    return download(address, [DESCRIPTION, WEIGHTS])


def _read_file(path: Path) -> dict[str, Any]:
    """Read the file of a checkpoint, and see whether it is one."""
    try:
        content = read_torch_file(path)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no checkpoint {path}; name a run folder or a .pt file in its checkpoints"
        ) from error
    except (pickle.UnpicklingError, LookupError) as error:  # torch's words advise to run the file
        raise UserError(
            f"{path} is damaged or no checkpoint: it is not made of tensors and plain values alone"
        ) from error
    except Exception as error:  # the bytes of a damaged file may lead the reader anywhere
        first = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise UserError(f"{path} is damaged or no checkpoint: {first}") from error
    if not isinstance(content, dict) or not {"format", "config", "card", "model"} <= content.keys():
        raise UserError(
            f"{path} is not a segkit checkpoint; an encoder's weights go to model.encoder.weights"
        )
    return content


def find_checkpoint(source: Source) -> Source:
    """Return the best checkpoint of a run folder, else the last.

    A file, the folder of a model and an address on the hub stand for themselves.
    """
    if is_address(source):
        return source
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"{path} is no checkpoint; name the run folder that was trained from it")
    if not path.is_dir() or is_model_folder(path):
        return path
    candidates = [path / "checkpoints" / BEST, path / "checkpoints" / LAST]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"{path} holds no checkpoint; looked for {candidates[0]} and {candidates[1]}, and for "
        f"{WEIGHTS} with {DESCRIPTION}"
    )


def restore_config(content: dict[str, Any], source: Source) -> Config:
    """Return the config that a checkpoint was trained by.

    Raises:
        UserError: it was trained without one, or with parts that are not registered here.
    """
    if content["config"] is None:
        raise UserError(
            f"{source} was trained from Python, without a config, so its model cannot be rebuilt; "
            "build the model yourself, load the checkpoint's 'model' into it, and pass it to "
            "segkit.Predictor"
        )
    try:
        config = parse_config(content["config"], str(source))
    except UserError as error:
        raise UserError(f"{error}{import_hint(content.get('imports', ()))}") from error
    return config if is_address(source) else locate_card(config, Path(source))


def restore_card(content: dict[str, Any], source: Source) -> Card:
    """Return the card of the data set that a checkpoint was trained on."""
    if content["card"] is None:
        raise UserError(f"{source} was trained from Python, without a card")
    return Card.model_validate(content["card"])


def restore_statistics(content: dict[str, Any], config: Config) -> Statistics:
    """Return the numbers that were computed from the training split."""
    if content.get("statistics"):
        return Statistics(**content["statistics"])
    mean, std = config.data.mean, config.data.std
    if isinstance(mean, str) or isinstance(std, str):  # format 1 has numbers there
        raise UserError("the checkpoint holds neither statistics nor data.mean and data.std")
    weights = getattr(config.train.loss, "class_weights", None)
    return Statistics(mean, std, None if isinstance(weights, str) else weights)


def restore_classes(content: dict[str, Any]) -> list[str]:
    """Return the names of the classes that a checkpoint was trained on."""
    if "classes" in content:
        return list(content["classes"]["names"])
    return [entry["name"] for entry in content["card"]["classes"]]


def restore_settings(content: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return the settings of a checkpoint as plain values, see `Experiment.settings`."""
    if content["config"] is None:
        settings: dict[str, Any] = content["settings"]
        return settings
    config = restore_config(content, source)
    return resolved_settings(config, restore_statistics(content, config))


def resolved_settings(config: Config, statistics: Statistics) -> dict[str, Any]:
    """Return a config as plain values, with the numbers computed from data in their places."""
    settings = config.model_dump()
    settings["data"] |= {"mean": statistics.mean, "std": statistics.std}
    if statistics.class_weights is not None:
        settings["train"]["loss"]["class_weights"] = statistics.class_weights
    return settings


def restore_training(content: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return the state of the training that a checkpoint was written in.

    Raises:
        UserError: it holds a model alone.
    """
    training: dict[str, Any] | None = content.get("training")
    if training is None:
        raise UserError(f"{source} holds a model alone; resume from the run's last.pt")
    return training


def restore_model(content: dict[str, Any], source: Source) -> SegmentationModel:
    """Rebuild the model of a checkpoint; opens no socket."""
    config = restore_config(content, source)
    weights = content["model"]
    stored = sum(weight.numel() for weight in weights.values())
    problem = f"{source} holds fewer weights than its config builds; use the file as it was saved"
    # some networks are built with a classifier, which is then taken off
    with at_most(4 * stored + SPARE_VALUES, 4 * len(weights) + SPARE_TENSORS, problem):
        model = build_model(config.model, len(restore_classes(content)), load_weights=False)
    load_weights(model, weights, source)
    return model


def borrow_weights(model: nn.Module, source: Source) -> str:
    """Start from the weights of another run, where names and shapes agree; says what was taken."""
    weights, own = load_checkpoint(source)["model"], model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if all(value.ndim < 2 for value in fitting.values()):  # biases and counters fit by chance
        raise UserError(f"train.init_from: no weight of {source} fits the model; leave it out")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    unused = sorted(weights.keys() - fitting.keys())
    report = f"{len(fitting)} of {len(own)} weights from {source}"
    for names, what in ((fresh, "fresh"), (unused, "left over there")):
        if names:
            report += f"; {what}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    return report


def load_weights(model: nn.Module, weights: dict[str, Any], source: Source) -> None:
    """Load a state dict, or say which model it is of."""
    own = model.state_dict()
    wrong = sorted(
        (own.keys() ^ weights.keys())
        | {k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape}
    )
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        raise UserError(
            f"{source} is the checkpoint of another model: {len(wrong)} weights do not fit "
            f"({shown}); use the config it was trained with"
        )
    model.load_state_dict(weights)


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """Return the checksum of weights, whatever file they came in."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
