"""Publish a run on the Hugging Face hub.

segkit push runs/unet_vgg16 user/streets-unet --licence mit
segkit push runs/unet_vgg16 user/streets-unet --split test --private
segkit push runs/unet_vgg16 user/streets-unet --dry-run published

The repository gets the weights (model.safetensors), all else that prediction needs (config.json), a
page (README.md) with scores, data, use and settings, and a picture of a few images of the split
(prediction.png). The model is evaluated for it, so the data must be there. Paths of this machine
are left out. Log in first, by `hf auth login`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from segkit.commands.options import CHECKPOINT, add_data_root, add_device, checkpoint, repository
from segkit.console import PlainConsole
from segkit.errors import UserError
from segkit.files import check_folder
from segkit.hub import SCHEME, create_repository, upload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", type=checkpoint, help=CHECKPOINT)
    parser.add_argument("repo", type=repository, help="on the hub: user/model; made if needed")
    parser.add_argument("--private", action="store_true", help="show the repository to nobody else")
    parser.add_argument("--split", help="to evaluate on (default: the validation split)")
    parser.add_argument(
        "--licence",
        default="unknown",
        metavar="L",
        help="of the weights, as the hub calls it, e.g. mit or cc-by-4.0 (default: unknown)",
    )
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="write the folder here, and upload nothing"
    )
    add_data_root(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a run, and upload it or write it into a folder."""
    # these take seconds to import
    from segkit.evaluation import summarize_evaluation
    from segkit.evaluation.target import evaluate_target, load_target
    from segkit.publishing import model_page, write_model_folder

    check_folder(arguments.dry_run)
    target = load_target(
        arguments.run, arguments.split, arguments.device, data_root=arguments.data_root
    )
    if "model" not in target.content:
        raise UserError(f"{arguments.run} is an exported file; push the run that it was made of")
    repo, folder = arguments.repo, arguments.dry_run
    # before the evaluation, which may take long and be in vain
    url = None if folder else create_repository(repo, arguments.private)
    console = PlainConsole()
    console.print(f"{target.predictor.origin}, on {target.title}")
    card = target.card
    results = summarize_evaluation(
        evaluate_target(target), card.class_names, card.sequences, foreground=target.foreground
    )
    console.print(results.scores.miou_line(results.interval("miou")))
    page = model_page(repo, arguments.licence, target, results)
    if folder:
        write_model_folder(folder, target, page)
        console.print(f"written: {folder}")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        write_model_folder(Path(temporary), target, page)
        upload(Path(temporary), repo)
    console.print(f"pushed: {url}; load it by its name, {SCHEME}{repo}")
    return 0
