"""Checkpoints: one file that rebuilds the model and its preprocessing, written whole or not at all.

    {"format": 1, "config": {...}, "card": {...}, "model": state dict, "epoch": 3, "scores": {...}}

and, in `last.pt`, `"training"`: all that going on needs. Plain types and tensors only, so that
`weights_only=True` reads them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from segkit.config import Config, parse_config
from segkit.errors import UserError
from segkit.model import SegmentationModel, build_model

FORMAT = 1
BEST, LAST, PREVIOUS = "best.pt", "last.pt", "previous.pt"


def save_checkpoint(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint; the file at `path` is the old or the new one, never a half.

    Args:
        path: of the file; its folder is made.
        content: plain values and tensors.
        previous: where to keep the file that was at `path`.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # of a killed process, the next one takes it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)  # killed here, a run goes on from `previous`
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into RuntimeError
        raise UserError(f"cannot write {path}: {error}; the file before it is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name itself on the disk, which a crash of the machine could lose otherwise."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: no such file, cut short, changed since it was written, or not by segkit.
    """
    try:
        if zipfile.is_zipfile(path):  # torch writes a checksum of each part, but reads none
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise OSError(f"the checksum of its part {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
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
    if content["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {content['format']}, this segkit reads {FORMAT}; "
            "use the version that wrote it"
        )
    return content


def find_checkpoint(path: Path) -> Path:
    """Find the checkpoint of a run folder: the best one, else the last. A file stands for itself.

    Raises:
        UserError: neither is there.
    """
    if not path.is_dir():
        return path
    candidates = [path / "checkpoints" / BEST, path / "checkpoints" / LAST]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(f"{path} holds no checkpoint; looked for {candidates[0]} and {candidates[1]}")


def restore_config(content: dict[str, Any], path: Path) -> Config:
    """Give the experiment a checkpoint was trained by."""
    return parse_config(content["config"], str(path))


def restore_model(content: dict[str, Any], path: Path) -> SegmentationModel:
    """Rebuild the model of a checkpoint; opens no socket.

    Raises:
        UserError: the weights do not belong to the configured model.
    """
    config = restore_config(content, path)
    model = build_model(config.model, len(content["card"]["classes"]), load_weights=False)
    load_weights(model, content["model"], path)
    return model


def borrow_weights(model: SegmentationModel, path: Path) -> str:
    """Start from the weights of another run, where names and shapes agree.

    Args:
        model: to start.
        path: of the checkpoint.

    Returns:
        A sentence on what was taken and what was not.

    Raises:
        UserError: nothing fits.
    """
    weights, own = load_checkpoint(path)["model"], model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if all(value.ndim < 2 for value in fitting.values()):  # biases and counters fit by chance
        raise UserError(f"train.init_from: no weight of {path} fits the model; leave it out")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    unused = sorted(weights.keys() - fitting.keys())
    report = f"{len(fitting)} of {len(own)} weights from {path}"
    for names, what in ((fresh, "fresh"), (unused, "left over there")):
        if names:
            report += f"; {what}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    return report


def load_weights(model: SegmentationModel, weights: dict[str, Any], path: Path) -> None:
    """Load a state dict, or say which model it is of.

    Raises:
        UserError: keys or shapes of another model.
    """
    own = model.state_dict()
    wrong = sorted(
        (own.keys() ^ weights.keys())
        | {k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape}
    )
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        raise UserError(
            f"{path} is the checkpoint of another model: {len(wrong)} weights do not fit "
            f"({shown}); use the config it was trained with"
        )
    model.load_state_dict(weights)
