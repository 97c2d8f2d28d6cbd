"""The page that introduces a model on the hub: what it is, how good, and how to use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

import segkit
from segkit.config import Config
from segkit.data.card import Card
from segkit.evaluation.results import Results
from segkit.evaluation.scores import percent, with_interval
from segkit.evaluation.table import interval_note
from segkit.evaluation.target import EvaluationTarget
from segkit.hub import SCHEME
from segkit.model_folder import without_private_paths
from segkit.publishing.folder import PICTURE
from segkit.tables import as_markdown

METRICS = {"miou": "mean_iou", "pixel_accuracy": "accuracy"}  # headline -> its name on the hub
ASIDE: Any = {  # settings that tell nothing of the model
    "run_dir": True,
    "data": {"card", "root", "workers", "cache"},
    "train": {"samples", "tensorboard"},
    "checkpoint": True,
}


def model_page(repo: str, licence: str, target: EvaluationTarget, results: Results) -> str:
    """Return README.md of a repository, with the front matter that the hub reads."""
    front = yaml.safe_dump(front_matter(repo, licence, target, results), sort_keys=False)
    sections = [
        f"---\n{front}---\n",
        _introduction(repo, target),
        _scores(target, results),
        _data(target.card),
        _use(repo, target.content.get("imports", ())),
        _training(target.config, target.content["epoch"]),
    ]
    return "\n".join(sections)


def front_matter(
    repo: str, licence: str, target: EvaluationTarget, results: Results
) -> dict[str, Any]:
    """Return what the hub searches and lists a model by."""
    data = {"name": target.card.name, "type": target.card.name, "split": target.dataset.split}
    metrics = [
        {"type": kind, "name": results.label(name), "value": round(value, 4)}
        for name, kind in METRICS.items()
        if not math.isnan(value := float(results.headlines[name].value))
    ]
    result = {"task": {"type": "image-segmentation"}, "dataset": data, "metrics": metrics}
    model = target.config.model
    return {
        "license": licence,
        "library_name": "segkit",
        "pipeline_tag": "image-segmentation",
        "tags": ["segkit", "semantic-segmentation", model.decoder.name, model.encoder.name],
        "model-index": [{"name": _name(repo), "results": [result]}],
    }


def _name(repo: str) -> str:
    return repo.partition("/")[2]


def _introduction(repo: str, target: EvaluationTarget) -> str:
    model, names = target.config.model, target.card.class_names
    return (
        f"# {_name(repo)}\n\n"
        f"Semantic segmentation by the decoder `{model.decoder.name}` on the encoder "
        f"`{model.encoder.name}`, trained with [segkit](https://github.com/segkit/segkit) on "
        f"{target.card.name}. It names one of {len(names)} classes for every pixel: "
        f"{', '.join(names)}.\n\n"
        f"![Images, their truth, the prediction, and its errors]({PICTURE})\n\n"
        f"*Images of the split `{target.dataset.split}`, which the scores are of.*\n"
    )


def _scores(target: EvaluationTarget, results: Results) -> str:
    headlines = [
        [results.label(name), with_interval(value, interval)]
        for name, (value, interval, _) in results.headlines.items()
    ]
    scores = results.scores
    shares = scores.iou, scores.precision, scores.recall, results.target_share
    classes = [
        [name, *map(percent, each)]
        for name, *each in zip(results.class_names, *shares, strict=True)
    ]
    columns = ["class", "IoU %", "precision %", "recall %", "of the pixels %"]
    warnings = "".join(f"\n**{warning}**\n" for warning in results.warnings)
    return (
        f"## Scores\n\n{results.images} images of {target.card.name}, split "
        f"`{target.dataset.split}`.\n{warnings}\n"
        f"{as_markdown([['score', 'value'], *headlines])}\n{interval_note(results)}\n\n"
        f"{as_markdown([columns, *classes])}"
    )


def _data(card: Card) -> str:
    facts = {"data set": card.name, "source": card.source, "licence": card.licence}
    lines = [f"- {name}: {text or 'not stated'}\n" for name, text in facts.items()]
    return "## Data\n\n" + "".join(lines) + (f"\n{card.citation}\n" if card.citation else "")


def _use(repo: str, imports: Sequence[str]) -> str:
    address, names = f"{SCHEME}{repo}", without_private_paths(list(imports))
    own = "".join(f" --import {name}" for name in names)
    note = f"\nIt needs parts of its author's own: {', '.join(names)}.\n" if names else ""
    return (
        "## How to use it\n\n"
        "```sh\npip install 'segkit[hub]'\n"
        f"segkit predict {address} photo.jpg --out masks --overlay{own}\n```\n\n"
        "```python\nfrom segkit import Predictor\n\n"
        f'predictor = Predictor.load("{address}")\n'
        "mask = predictor(image).mask.numpy()"
        "  # image: RGB uint8 (H, W, 3); mask: class indices (H, W)\n```\n" + note
    )


def _training(config: Config, epoch: int) -> str:
    """Return the settings that differ from the defaults."""
    chosen = config.model_dump(mode="json", exclude=ASIDE, exclude_defaults=True)
    text = yaml.safe_dump(without_private_paths(chosen), sort_keys=False)
    return (
        f"## Training\n\nThese are the weights after epoch {epoch} of {config.train.epochs}, by "
        f"segkit {segkit.__version__}. All other settings are the defaults; `config.json` has "
        f"every one.\n\n```yaml\n{text}```\n"
    )
