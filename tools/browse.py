"""Draw samples as the network sees them: images, classes over them, a legend.

python tools/browse.py configs/unet_vgg16.yaml
python tools/browse.py configs/unet_vgg16.yaml --split val --count 4 --out samples.png
python tools/browse.py configs/unet_vgg16.yaml --raw
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from segkit.cli import add_overrides, check_output, make_parser, run_tool
from segkit.config import load_config
from segkit.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and draw."""
    parser = make_parser("Draw samples as the network sees them: images, classes, a legend.")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    parser.add_argument("--split", help="of the data set (default: the training split)")
    parser.add_argument("--count", type=int, default=16, help="of samples (default: 16)")
    parser.add_argument("--raw", action="store_true", help="draw them before any transform")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: SET_SPLIT.png")
    add_overrides(parser, "override settings, e.g. --set data.root=DIR")
    return run_tool(browse, parser, argv)


def browse(arguments: argparse.Namespace) -> int:
    """Draw the samples that training begins with, or some spread over another split."""
    if arguments.count < 1:
        raise UserError(f"--count is {arguments.count}; it must be 1 or more")
    check_output(arguments.out)
    config = load_config(arguments.config, arguments.set)

    from segkit.data import build_dataset, load_card
    from segkit.data.browse import Shown, draw_sheet
    from segkit.data.loader import EpochBatches
    from segkit.data.statistics import resolve_statistics

    card = load_card(config.data.card, config.data.root)
    config = resolve_statistics(config, card)
    split = arguments.split or config.data.train_split
    training = split == config.data.train_split
    dataset = build_dataset(config, card, split, augment=training)
    count = min(arguments.count, len(dataset))
    if training:
        [keys] = EpochBatches(len(dataset), len(dataset), seed=config.seed)
        keys = keys[:count]
    else:
        keys = [(0, index * len(dataset) // count) for index in range(count)]
    samples = []
    for epoch, index in keys:
        if arguments.raw:
            samples.append(Shown(*dataset.read(index), dataset.pairs[index].name))
        else:
            sample = dataset[epoch, index]
            image = sample.image.permute(1, 2, 0).numpy()
            samples.append(Shown(image, sample.mask.numpy(), sample.name))

    state = "as on disk" if arguments.raw else "as the network sees them"
    path = arguments.out or Path(f"{card.name}_{split}{'_raw' * arguments.raw}.png")
    path = path if path.suffix else path.with_suffix(".png")
    draw_sheet(path, samples, card, f"{card.name} {split}: {len(samples)} samples {state}")
    print(f"{len(samples)} samples of {card.name} {split}, {state}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
