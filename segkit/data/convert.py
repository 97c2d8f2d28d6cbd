"""Convert what the archives of a data set hold into what its card describes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress
from scipy.io import loadmat

from segkit.files import below

VOC = "VOCdevkit/VOC2012"
LISTS = f"{VOC}/ImageSets/Segmentation"
SBD = "benchmark_RELEASE/dataset"


def augment_voc(staged: Path, home: Path, bar: Progress) -> None:
    """Write train_aug: SBD's train and val and VOC's train, less VOC's val; prefer VOC's masks."""
    own = set(_first_words(home / LISTS / "train.txt"))
    theirs = {n for split in ("train", "val") for n in _first_words(staged / SBD / f"{split}.txt")}
    names = sorted((own | theirs) - set(_first_words(home / LISTS / "val.txt")))
    folder = staged / VOC / "SegmentationClassAug"
    folder.mkdir(parents=True)
    for name in bar.track(names, description="SegmentationClassAug"):
        target = below(folder, f"{name}.png")
        if name in own:
            shutil.copyfile(home / VOC / "SegmentationClass" / f"{name}.png", target)
        else:
            mask = Image.fromarray(_read_sbd(staged / SBD / "cls" / f"{name}.mat"))
            mask.putpalette(_voc_palette().tobytes())
            mask.save(target)
    _write_list(staged / LISTS / "train_aug.txt", names)


def _read_sbd(path: Path) -> np.ndarray:
    """Read uint8 class indices (H, W) of SBD, which are those of VOC."""
    try:
        return loadmat(path)["GTcls"]["Segmentation"][0, 0].astype(np.uint8)
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken file raises nearly anything
        raise OSError(f"{path.name} cannot be read: {error}") from error


def _voc_palette() -> np.ndarray:
    """Return VOC's palette (256, 3): an index's bits go to R, G and B in turn, lowest bit first."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    channels = np.pad(bits, ((0, 0), (0, 1))).reshape(256, 3, 3)  # (index, which of its bits, RGB)
    return np.packbits(channels.transpose(0, 2, 1), axis=2)[..., 0]


def write_pet_lists(staged: Path, home: Path, bar: Progress) -> None:
    """Write the lists: the official test split; every tenth of each other breed is val."""
    seen: Counter[str] = Counter()
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for name in _first_words(staged / "annotations" / "trainval.txt"):
        breed = name.rpartition("_")[0]
        seen[breed] += 1
        lists["train" if seen[breed] % 10 else "val"].append(name)
    lists["test"] = _first_words(staged / "annotations" / "test.txt")
    for split, names in lists.items():
        _write_list(staged / f"{split}.txt", names)


def _first_words(path: Path) -> list[str]:
    """Return the first word of each line that is no comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


# by data set: a function of the folder of what was unpacked, the root, and a progress bar
CONVERT: dict[str, Callable[[Path, Path, Progress], None]] = {
    "sbd": augment_voc,
    "oxford_pets": write_pet_lists,
}
