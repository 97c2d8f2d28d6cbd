"""Set images aside for validation, frames of a video never apart from each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

SHARE = 0.2  # of the images, for validation
MIN_VIDEOS = 5  # to set whole videos aside; of fewer, the last frames of each


def share_out(names: Sequence[str], sequences: str | None, seed: int = 0) -> dict[str, list[str]]:
    """Choose about a fifth of the names for validation, at least one.

    Args:
        names: of the pairs, sorted.
        sequences: pattern whose group captures what the names of a video's frames share.
        seed: of the choice.

    Returns:
        The names for `train` and for `val`.
    """
    count = max(1, round(SHARE * len(names)))
    generator = np.random.default_rng(seed)
    if sequences is None:
        val = {names[index] for index in generator.permutation(len(names))[:count].tolist()}
    else:
        val = set(_of_videos(names, sequences, count, generator))
    return {kind: [n for n in names if (n in val) == (kind == "val")] for kind in ("train", "val")}


def _of_videos(
    names: Sequence[str], sequences: str, count: int, generator: np.random.Generator
) -> list[str]:
    videos = defaultdict(list)
    for name in names:
        match = re.search(sequences, name)
        videos[match[1] if match else name].append(name)
    if len(videos) < MIN_VIDEOS:
        return [n for frames in videos.values() for n in frames[-max(1, len(frames) // 5) :]]
    chosen: list[str] = []
    for index in generator.permutation(len(videos)).tolist():
        if len(chosen) >= count:
            break
        chosen += list(videos.values())[index]
    return chosen
