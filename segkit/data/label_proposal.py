"""What the masks of a card without a label map hold, and the map that this suggests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segkit.data.parallel import parallel_map
from segkit.data.raw_labels import (
    as_key,
    as_label_map,
    as_yaml,
    colors_of,
    holds_colors,
    pack,
    read_mask,
    unpack,
    values_of,
)
from segkit.labels import IGNORE, IGNORE_INDEX, MAX_CLASSES, Color

SHOWN = 6  # labels with their shares
STRAY = 20  # labels beside the classes' from which on they are taken for blurred borders
MOST = 2000  # labels of a file that are counted; a photograph has more


class Labels(NamedTuple):
    """What masks hold.

    Args:
        pixels: number of pixels of each raw label.
        by_color: whether the labels are packed colours.
        files: number of masks.
    """

    pixels: Counter[int]
    by_color: bool
    files: int


class Proposal(NamedTuple):
    """Classes that raw labels suggest.

    Args:
        names: of the classes, in the order of their labels.
        colors: RGB of each where the labels are colours; None: any will do.
        label_map: raw label -> name, or `ignore`.
    """

    names: list[str]
    colors: list[list[int]] | None
    label_map: dict[int, str]


class _Held(NamedTuple):
    """Pixels of each raw label in a mask, read as values, and as colours if it can be."""

    values: dict[int, int] | None  # None: it holds colours
    colors: dict[int, int]


def propose_labels(
    root: Path, files: Sequence[Path], classes: Mapping[str, Color], lossy: bool
) -> str:
    """Say that a card lacks its label map, what its masks hold, and what to paste.

    Args:
        root: folder of the data, for the text.
        files: the masks, which are all read.
        classes: names and display colours, in the card's order; without any, they are proposed.
        lossy: whether the card allows lossy formats, where stray labels are common.

    Raises:
        UserError: a mask cannot be read.
    """
    lacking = "label_map is" if classes else "classes and label_map are"
    start = f"{lacking} missing; label_map says what each value or colour in a mask file means"
    if not files:
        example = as_label_map(dict(enumerate(classes or ("background", "thing"))), by_color=False)
        return f"{start}, e.g. {example}; there are no masks below {root} to look into"
    labels = count_labels(files, lossy)
    start += f". The {len(files)} masks below {root} hold {describe_labels(labels)}"
    if classes:
        return start + _match(labels.pixels, classes, labels.by_color, lossy)
    return start + _name(labels)


def count_labels(files: Sequence[Path], lossy: bool = False) -> Labels:
    """Read masks and count their raw labels.

    Raises:
        UserError: a mask cannot be read, or is in a lossy format that `lossy` does not allow.
    """
    held = list(parallel_map(lambda index: _look_into(files[index], lossy), len(files)))
    by_color = any(each.values is None for each in held)
    found: Counter[int] = Counter()
    for each in held:
        found.update(each.colors if each.values is None or by_color else each.values)
    return Labels(found, by_color, len(files))


def propose_classes(labels: Labels) -> Proposal | None:
    """Give each raw label a class; 255 beside 0, 1, ... is void. None for too few or too many."""
    order = sorted(labels.pixels)
    void = set()
    if not labels.by_color and len(order) > 2 and order == [*range(len(order) - 1), IGNORE_INDEX]:
        void = {IGNORE_INDEX}  # as is common
        order.remove(IGNORE_INDEX)
    if not 2 <= len(order) <= MAX_CLASSES:
        return None
    names = (
        ["background", "thing"] if len(order) == 2 else [f"class_{i}" for i in range(len(order))]
    )
    colors = unpack(np.array(order)).tolist() if labels.by_color else None
    return Proposal(
        names, colors, dict(zip(order, names, strict=True)) | dict.fromkeys(void, IGNORE)
    )


def _match(found: Counter[int], classes: Mapping[str, Color], by_color: bool, lossy: bool) -> str:
    """Match labels to classes: by their colours where they agree, the others in order."""
    labels: dict[int, str] = {}
    if by_color:
        named = {int(pack(np.array(color))): name for name, color in classes.items()}
        labels = {label: name for label, name in named.items() if label in found}
    names = [name for name in classes if name not in labels.values()]
    others = {label: count for label, count in found.items() if label not in labels}
    extra = len(others) - len(names)
    if extra == 1 and not by_color and IGNORE_INDEX in others:
        kept = others.keys() - {IGNORE_INDEX}  # void, as is common
    else:
        kept = {label for label, _ in Counter(others).most_common(len(names))}
    labels |= dict(zip(sorted(kept), names, strict=False))
    text = f": {len(found)} for {len(classes)} classes" if extra else ""
    end = ""
    if extra < 0:
        without = ", ".join(names[len(kept) :])
        text += f", so that none is left for {without}; take it out of classes, or add its masks"
    elif extra > STRAY and sum(found[label] for label in labels) < found.total() / 2:
        return f"{text}, which is too many for masks; check that the folders are right"
    elif extra and (lossy or extra > STRAY):
        text += ", of which the most frequent are taken; the others become the nearest of them"
        end = "" if lossy else "\nlossy_masks: true"
    elif extra:
        text += "; those ignored below may need a class of their own"
        labels |= dict.fromkeys(others.keys() - kept, IGNORE)
    how = "by colour, then in order" if by_color else "in order"
    return (
        f"{text}. Matched to the classes {how}, they give this map; check it and paste it into the "
        f"card:\n{as_label_map(labels, by_color)}{end}"
    )


def _name(labels: Labels) -> str:
    """Propose classes, and their labels, in words."""
    proposal = propose_classes(labels)
    if proposal is None:
        return (
            f", while 2 to {MAX_CLASSES} make classes; check that the folders are right, or name "
            "the classes, so that the labels can be matched to them"
        )
    names, colors, label_map = proposal
    classes: list[object] = [*names]
    if colors:
        classes = [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)]
    many = "; if most are blurred borders, write classes: [...] yourself" * (len(names) > STRAY)
    return (
        f"{many}. Paste this into the card, and give the classes their names:\n"
        f"classes: {as_yaml(classes)}\n{as_label_map(label_map, labels.by_color)}"
    )


def _look_into(path: Path, lossy: bool) -> _Held:
    raster = read_mask(path, lossy)
    if holds_colors(raster):
        return _Held(None, _count(pack(colors_of(raster, path))))
    values = _count(values_of(raster, path))
    if raster.palette is not None:
        colors = pack(raster.palette)
        as_colors = Counter[int]()
        for value, count in values.items():
            as_colors[int(colors[value])] += count
        return _Held(values, as_colors)
    return _Held(values, {value * 0x010101: count for value, count in values.items()})


def _count(labels: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(labels, return_counts=True)
    return dict(Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))).most_common(MOST))


def describe_labels(labels: Labels) -> str:
    """Write the most frequent labels with their shares of the pixels."""
    found, by_color, _ = labels
    pixels = found.total()
    most = sorted(label for label, _ in found.most_common(SHOWN))
    parts = [f"{as_key(label, by_color)} ({found[label] / pixels:.1%})" for label in most]
    parts[0] = parts[0].replace(")", " of the pixels)")
    parts += [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    *first, last = parts
    kind = ("colour" if by_color else "value") + "s" * (len(found) > 1)
    return f"the {kind} {', '.join(first)}{' and ' if first else ''}{last}"
