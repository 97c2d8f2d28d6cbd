"""Write the card and the experiment for data that was looked at, with the reasons beside."""

from __future__ import annotations

import os
from pathlib import Path

from segkit.data.card_values import plain_name
from segkit.data.label_proposal import describe_labels
from segkit.data.raw_labels import as_key, as_yaml
from segkit.errors import UserError
from segkit.files import check_folder, write_file
from segkit.starter.survey import Survey

STEPS = 400  # of training, to begin with
BATCH = 4
LARGEST_CROP = 192  # pixels; without a GPU, a step of larger ones takes seconds
RARE, FEW = 0.02, 0.1  # shares of the pixels of the rarest class


def write_starter(folder: Path, found: Survey) -> tuple[Path, Path]:
    """Write `card.yaml`, `NAME.yaml` and, where images are shared out, lists of names.

    Returns:
        The paths of the experiment and of the card.

    Raises:
        UserError: the folder holds one of the files already, or cannot be written into.
    """
    name = plain_name(folder.resolve().name)
    files = {
        folder / f"{name}.yaml": experiment_text(found, name),
        folder / "card.yaml": card_text(found, name, folder),
        **{folder / f"{split}.txt": "\n".join(found.names[split]) + "\n" for split in found.listed},
    }
    check_folder(folder)
    for file in files:
        if file.exists():
            raise UserError(f"{file} is there already; move it away, or name another folder")
    for file, text in files.items():
        write_file(file, text)
    return folder / f"{name}.yaml", folder / "card.yaml"


def card_text(found: Survey, name: str, folder: Path) -> str:
    """Return the card; a split that is listed has a text file in its folder."""
    home = folder.resolve()
    is_near = found.root == home or home in found.root.parents or found.root == home.parent
    root = Path(os.path.relpath(found.root, home)) if is_near else found.root
    lines = [
        "# What the data is. `segkit check-data` of this file reports all that is wrong with it.",
        f"name: {as_text(name)}",
        f"root: {as_text(root.as_posix())}  # folder of the data"
        + (", relative to this file" if is_near else ""),
        "splits:  # folders below the root; image and mask pair by name",
    ]
    for split, entry in found.splits.items():
        keys = {key: value for key, value in entry.model_dump().items() if value}
        if split in found.listed:
            file = home / f"{split}.txt"
            keys["list"] = Path(os.path.relpath(file, found.root) if is_near else file).as_posix()
        lines.append(f"  {split}: {as_yaml(keys)}  # {len(found.names[split])} pairs")
    if "val" in found.listed and found.splits["train"] == found.splits["val"]:
        how = "as whole videos or their last frames" if found.sequences else "at random"
        lines.append(f"# A fifth was set aside for validation, {how}; the lists can be edited.")
    if found.left_out:
        some = ", ".join(found.left_out[:5]) + ", ..." * (len(found.left_out) > 5)
        lines.append(f"# Without a partner, and so in no list: {some}")
    proposal, by_color = found.proposal, found.labels.by_color
    kind = "colour" if by_color else "value"
    lines.append("# In the order of the class indices; give them the names that they deserve.")
    if proposal.colors is None:
        lines.append(f"classes: {as_yaml(proposal.names)}  # colours are chosen, or given")
    else:
        lines.append("classes:")
        pairs = zip(proposal.names, proposal.colors, strict=True)
        lines += [f"  - {as_yaml({'name': n, 'color': c})}" for n, c in pairs]
    lines.append(f"label_map:  # {kind} in a mask file -> class; the masks hold")
    total = found.labels.pixels.total()
    for label, class_name in sorted(proposal.label_map.items()):
        key = as_text(as_key(label, by_color))
        share = found.labels.pixels[label] / total
        lines.append(f"  {key}: {as_text(class_name)}  # {share:.2%} of the pixels")
    if len(proposal.names) == 2 and found.rarest[0] == proposal.names[0]:
        lines.append(f"foreground: {proposal.names[0]}  # the rarer class: its IoU comes first")
    if found.lossy_masks:
        lines.append("lossy_masks: true  # JPEG makes up labels; they become the nearest above")
    if found.white is not None:
        lines.append(f"image_max: {found.white:g}  # the pixel value that is white")
    if found.sequences:
        lines.append(
            "# Names and looks say that the images are frames of videos: the group of this"
        )
        lines.append(
            "# pattern is what the names of a video share, and intervals draw frames in blocks."
        )
        lines.append(f"sequences: {as_text(found.sequences)}")
    return "\n".join(lines) + "\n"


def experiment_text(found: Survey, name: str) -> str:
    """Return an experiment that suits the data, with the reasons as comments."""
    crop = _crop(found)
    batch = min(BATCH, len(found.names["train"]))
    height, width = found.sizes[len(found.sizes) // 2]
    repeat = max(1, min(8, round(height * width / (crop[0] * crop[1]))))
    steps = max(1, len(found.names["train"]) * repeat // batch)
    epochs = max(5, min(200, round(STEPS / steps)))
    lines = [
        f"# {found.count} images of {_sizes(found)} with {_channels(found)}, "
        f"{len(found.proposal.names)} classes.",
        "# `segkit config` of this file shows every other setting, and what each one means.",
        "seed: 0",
        "",
        "data:",
        "  card: card.yaml  # beside this file",
        f"  batch_size: {batch}",
        *([f"  repeat: {repeat}  # an image is {repeat} times as large as a crop"] * (repeat > 1)),
        *_pixel_lines(found),
        "  train_transforms:  # albumentations, in order; scoring sees whole images",
        "    - RandomScale: {scale_limit: [-0.2, 0.25], p: 1.0}",
        f"    - RandomCrop: {{height: {crop[0]}, width: {crop[1]}, pad_if_needed: true}}  "
        "# smaller ones are padded with void",
        *_transform_lines(found),
        "",
        "model:",
        f"  in_channels: {found.channels}",
        "  encoder:",
        "    name: vgg16_bn",
        "    weights: null  # imagenet: downloaded once; helps most where images are few",
        "  decoder: {name: unet}",
        "",
        "train:",
        f"  epochs: {epochs}  # {epochs * steps} steps; more, if the curves still rise at the end",
        f"  validate_every: {max(1, epochs // 10)}",
        *_loss_lines(found),
        "  optimizer: {name: adamw, lr: 1.0e-3, weight_decay: 0.01}",
        "  schedule: {name: onecycle, peak: 0.2}",
        f"run_dir: {as_text(f'runs/{name}')}",
    ]
    return "\n".join(lines) + "\n"


def _crop(found: Survey) -> list[int]:
    """Return (H, W) of a crop of the median image, a multiple of 32."""
    sides = found.sizes[len(found.sizes) // 2]
    crop = [min(LARGEST_CROP, max(32, side // 32 * 32)) for side in sides]
    return crop if found.channels == 3 else [min(crop)] * 2  # a quarter turn must not change it


def _pixel_lines(found: Survey) -> list[str]:
    if found.channels == 3 and found.white is None:
        return ["  # mean and std are those of ImageNet; auto computes those of these images"]
    return [
        "  mean: auto  # of the training images, which are not like ImageNet's",
        "  std: auto",
    ]


def _transform_lines(found: Survey) -> list[str]:
    if found.channels == 3:
        return [
            "    - HorizontalFlip",
            "    # - VerticalFlip  # where up and down mean nothing, as in microscopy",
            "    - ColorJitter: {brightness: [0.8, 1.2], contrast: [0.8, 1.2], "
            "saturation: [0.8, 1.2], hue: [-0.02, 0.02], p: 0.5}",
        ]
    return [
        "    - HorizontalFlip",
        "    - VerticalFlip  # take this and the next out where up is not down",
        "    - RandomRotate90",
        *(["    - RandomBrightnessContrast"] * (found.channels == 1)),
    ]


def _loss_lines(found: Survey) -> list[str]:
    rare, share = found.rarest
    if share < RARE:
        return [
            f"  # {rare} is {share:.2%} of the pixels: cross-entropy alone may never name it",
            "  loss: {name: cross_entropy_dice}",
        ]
    if share < FEW:
        return [
            f"  # {rare} is {share:.1%} of the pixels, and counts for more by these weights",
            "  loss: {name: cross_entropy, class_weights: sqrt_median_frequency}",
        ]
    return [
        f"  # the rarest class, {rare}, is {share:.0%} of the pixels: no weights needed",
        "  loss: {name: cross_entropy}",
    ]


def _sizes(found: Survey) -> str:
    (low_h, low_w), (high_h, high_w) = found.sizes[0], found.sizes[-1]
    largest = f" to {high_h}x{high_w}" if found.sizes[0] != found.sizes[-1] else ""
    return f"{low_h}x{low_w}{largest} pixels (H x W)"


def _channels(found: Survey) -> str:
    return f"{found.channels} channel{'s' * (found.channels != 1)}"


def summary_lines(found: Survey) -> list[str]:
    """Say what was found, for the terminal."""
    shares = ", ".join(f"{len(names)} {split}" for split, names in found.names.items())
    lines = [
        f"pairs    {found.count} ({shares})",
        f"images   {_sizes(found)}, {_channels(found)}"
        + (f", white is {found.white:g}" if found.white else ""),
        f"masks    hold {describe_labels(found.labels)}",
        f"classes  {', '.join(found.proposal.names)}; name them in the card",
    ]
    if found.sequences:
        lines.append("videos   names and looks show frames of videos; see sequences in the card")
    if found.left_out:
        lines.append(f"note     {len(found.left_out)} files have no partner and are left out")
    return lines


def as_text(value: object) -> str:
    """Write a scalar as YAML."""
    return as_yaml([value])[1:-1]
