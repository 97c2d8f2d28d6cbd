"""Weights for encoders: from ImageNet by name, or from a file; checked before they are loaded."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from segkit.encoders.vgg import VGG_ENCODERS, VGGEncoder
from segkit.errors import UserError, unknown_name

SUFFIXES = (".pth", ".pt", ".safetensors")
TIMEOUT_SECONDS = 30.0  # for each wait on the network, not for the whole download
FIRST_CONV = "features.0.weight"

_log = logging.getLogger(__name__)


def load_encoder_weights(encoder: VGGEncoder, name: str, weights: str | Path | None) -> None:
    """Load weights into an encoder in place; nothing changes unless everything fits.

    A file of RGB weights also serves other numbers of input channels: one gets the sum of the RGB
    filters, two the first two of them, and each channel from the fourth on a filter of zeros.
    Keys of the classifier and of layers behind the encoder's deepest tap are ignored.

    Args:
        encoder: receives the weights.
        name: of the encoder, a key of `ENCODERS`.
        weights: None (keep the random ones), `imagenet`, or a .pth, .pt or .safetensors file with
            torchvision's key names.

    Raises:
        UserError: no such weights, a failed download, an unreadable file, or one that does not
            fit, with the names of the keys.
    """
    if weights is None:
        return
    path = resolve_weights(name, weights)
    state = {
        key: value for key, value in read_weights(path).items() if not _is_behind(key, encoder)
    }
    if FIRST_CONV in state:
        state[FIRST_CONV] = _fit_input_channels(state[FIRST_CONV], encoder.in_channels)
    _check_fit(state, encoder.state_dict(), f"{path} does not fit the encoder '{name}'")
    encoder.load_state_dict(state)


def resolve_weights(name: str, weights: str | Path) -> Path:
    """Return the file that `weights` means, after downloading it if it is `imagenet`.

    Args:
        name: of the encoder, a key of `ENCODERS`.
        weights: `imagenet` or the path of a file, which is returned as it is, with `~` expanded.

    Raises:
        UserError: no published weights, or a failed download, with the way to do without it.
    """
    if str(weights) != "imagenet":
        return Path(weights).expanduser()
    url = imagenet_url(name)
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not os.path.isfile(path):  # unlike Path.is_file, never raises
        _download(url, path)
    return path


def imagenet_url(name: str) -> str:
    """Return the address of torchvision's ImageNet weights for an encoder.

    Raises:
        UserError: an unknown encoder, or one for which torchvision has no weights.
    """
    import torchvision  # here because it takes seconds, and only this function needs it

    if name not in VGG_ENCODERS:
        raise unknown_name("encoder", name, VGG_ENCODERS)
    published = [known for known in VGG_ENCODERS if known in torchvision.models.list_models()]
    if name not in published:
        raise UserError(
            f"no ImageNet weights are published for the encoder '{name}'; use weights: null, the "
            f"path of a weight file, or an encoder that has them: {', '.join(published)}"
        )
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    return url


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a plain dict of tensors onto the CPU, running no code from the file.

    Args:
        path: a .pth or .pt file (read with `weights_only=True`) or a .safetensors file.

    Raises:
        UserError: missing, unreadable, of another type, or holding anything but named tensors.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is not a weight file: its name must end in {', '.join(SUFFIXES)}")
    if not os.path.isfile(path):
        raise UserError(f"there is no weight file {path}; check the path, or use weights: null")
    try:
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path, device="cpu")
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises nearly anything, from EOFError to KeyError
        raise UserError(
            f"cannot read the weight file {path} ({type(error).__name__}); it is damaged, cut "
            "short, or not a plain dict of tensors, so fetch or save it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a plain dict of tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path} is not a plain dict of tensors: under {key!r} it holds a "
                f"{type(value).__name__}; save the model's state_dict() alone"
            )
    return dict(content)


def _is_behind(key: str, encoder: VGGEncoder) -> bool:
    """Tell whether a key belongs to the classifier or to a layer that was not built."""
    part, _, rest = key.partition(".")
    number = rest.partition(".")[0]
    deeper = part == "features" and number.isdecimal() and int(number) >= len(encoder.features)
    return deeper or part == "classifier"


def _fit_input_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Turn RGB filters `(O, 3, k, k)` into filters of `in_channels`; leave all others alone."""
    if weight.ndim != 4 or weight.shape[1] != 3 or in_channels == 3:
        return weight
    if in_channels == 1:  # grey is R = G = B, so the sum sees it as RGB filters would
        return weight.sum(1, keepdim=True)
    extra = weight.new_zeros(weight.shape[0], max(0, in_channels - 3), *weight.shape[2:])
    return torch.cat([weight[:, :in_channels], extra], 1)


def _check_fit(given: dict[str, Tensor], wanted: dict[str, Tensor], problem: str) -> None:
    # files from before torch 0.4.1 lack this counter, and torch then starts it at 0 itself
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in wanted]
    misshaped = [
        f"{k} is {list(given[k].shape)} instead of {list(wanted[k].shape)}"
        for k in wanted
        if k in given and given[k].shape != wanted[k].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    report = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in found.items() if keys]
    if report:
        raise UserError(
            f"{problem}: of its keys {'; '.join(report)}; choose the encoder, norm, width and "
            "in_channels that the file was made for, or another file"
        )


def _first(keys: list[str], count: int = 5) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def _download(url: str, path: Path) -> None:
    """Fetch a file whole or not at all; several processes may do so at the same time."""
    try:
        found = re.search(r"-([0-9a-f]{8,})\.", path.name)
        if found is None:  # without it, torch takes a body cut short for the whole file
            raise ValueError("its name carries no hash to check it by")
        path.parent.mkdir(parents=True, exist_ok=True)
        # on a full disk torch may fail to close its temporary file and then leave it; in a folder
        # of its own it goes with the folder
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, _socket_timeout():
            part = os.path.join(folder, path.name)
            _log.info("downloading %s to %s", url, path)
            torch.hub.download_url_to_file(url, part, hash_prefix=found[1])
            os.replace(part, path)
    except (OSError, RuntimeError, ValueError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, RuntimeError):  # the hash
            reason = f"what came is cut short or another file, {reason}"
        raise UserError(
            f"could not download {url}: {reason}; put the file at {path} by hand, or use "
            "weights: null or the path of a .pth, .pt or .safetensors file"
        ) from error


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Make a dead host an error; torch's download itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
