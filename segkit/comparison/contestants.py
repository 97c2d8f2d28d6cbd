"""Who takes part in a comparison: experiments, trained if they are not yet, and runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.checkpoint import (
    LAST,
    find_checkpoint,
    load_checkpoint,
    resolved_settings,
    restore_card,
    restore_config,
    restore_settings,
    restore_training,
)
from segkit.comparison.vary import INSTEAD, Vary, folder_name, is_experiment, load_varied
from segkit.config import Config, load_config, move_data
from segkit.config.flatten import flatten
from segkit.data.card import Card, load_card
from segkit.data.reader import SampleReader
from segkit.data.statistics import compute_statistics
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import DeviceName, choose_hardware
from segkit.hub import Source, is_address, parse_address
from segkit.inference.backends.files import is_exported, load_content
from segkit.shipped import find
from segkit.training.listeners.run_folder import RunFolder, holds_run
from segkit.training.progress import Progress, changes
from segkit.training.trainer import Trainer

DECODER = "model.decoder"  # what models are expected to differ in, unless another key is varied


class Stopped(Exception):
    """A signal came while an experiment was trained; what was done is saved."""


@dataclass
class Contestant:
    """An experiment and the checkpoints of its runs, one a seed.

    The settings are those of the first run, with the numbers computed from its data.
    """

    name: str
    config: Config
    card: Card
    settings: dict[str, Any]
    checkpoints: list[Source] = field(default_factory=list)


def gather(
    items: Sequence[Source | Vary],
    seeds: int,
    out: Path,
    device: DeviceName = "auto",
    on_step: Callable[[str], None] = lambda what: None,
    data_root: str | None = None,
    overrides: Sequence[str] = (),
) -> list[Contestant]:
    """Find the contestants, and train those that are not yet trained.

    Args:
        items: YAML files of experiments, or the names of shipped ones; an experiment with a key
            whose values are contestants; runs, see `Predictor.load`, of which those that differ by
            their seed alone are one contestant.
        seeds: runs of each experiment, from its own seed upwards.
        out: where the runs of experiments are, `out/NAME-seedN`.
        device: to train on.
        on_step: called with a line on what is done next.
        data_root: folder of the data; None: where each contestant says.
        overrides: `a.b=c` each, of all experiments.

    Raises:
        UserError: a contestant that cannot be, see `load_config`.
        Stopped: a signal came; a second call goes on.
    """
    found: list[Contestant] = []
    experiments: list[Contestant] = []
    for override in overrides:
        if override.partition("=")[0].strip() == "run_dir":
            raise UserError(f"--set {override}: {INSTEAD['run_dir']}; leave it out")
    for item in items:
        if isinstance(item, Vary) or is_experiment(find("configs", item)):
            new = _read_experiment(item, overrides, data_root)
            experiments += new
            found += new
        elif overrides:
            raise UserError(f"--set changes experiments, but {item} is trained; leave one out")
        else:
            _add_run(item, found, data_root)
    names = [contestant.name for contestant in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two contestants are called {name}; rename one of the files")
    for number in range(seeds):  # seed by seed, so that a half-done comparison is a fair one
        for contestant in experiments:
            seed = contestant.config.seed + number
            run_dir = str(out / f"{folder_name(contestant.name)}-seed{seed}")
            config = contestant.config.model_copy(update={"seed": seed, "run_dir": run_dir})
            settings = {**contestant.settings, "seed": seed, "run_dir": run_dir}
            if not _is_trained(config, settings):
                on_step(f"training {run_dir}")
                _train(config, device)
            contestant.checkpoints.append(find_checkpoint(Path(run_dir)))
    return found


def _read_experiment(
    item: Source | Vary, overrides: Sequence[str], data_root: str | None
) -> list[Contestant]:
    """Read the contestants of an experiment: itself, or one for each value that is varied."""
    if isinstance(item, Vary):
        configs = load_varied(item, overrides, data_root)
    else:
        file = find("configs", item)
        configs = {file.stem: load_config(file, overrides, data_root)}
    found = []
    for name, config in configs.items():
        card = load_card(config.data.card, config.data.root)
        train = SampleReader(card, config.data.train_split, config.model.in_channels)
        settings = resolved_settings(config, compute_statistics(config, train))
        found.append(Contestant(name, config, card, settings))
    return found


def _add_run(item: Source, found: list[Contestant], data_root: str | None) -> None:
    """Add a run to the contestant that it differs from by its seed alone, or as a new one."""
    source = find_checkpoint(item)
    content = load_content(source)
    config, card = restore_config(content, source), restore_card(content, source)
    settings = restore_settings(content, source)
    if is_exported(source):
        export = content["export"]
        settings["export"] = {key: export[key] for key in ("format", "precision")}
    for contestant in found:
        same = {**settings, "seed": contestant.settings["seed"]}
        if contestant.checkpoints and not changes(contestant.settings, same):
            contestant.checkpoints.append(source)
            return
    name = re.sub(r"-seed\d+$", "", _name_of(source))
    config = move_data(config, data_root or card.root)  # the data it is evaluated on, and no other
    found.append(Contestant(name, config, card, settings, [source]))


def _name_of(source: Source) -> str:
    """Return the name of a model on the hub, of a run folder, or of a file."""
    if is_address(source):
        return parse_address(source).repo.partition("/")[2]
    file = Path(source)
    folder = file.parent.parent if file.parent.name == "checkpoints" else file
    return folder.resolve().name


def _train(config: Config, device: DeviceName) -> None:
    resume = holds_run(config.run_dir)
    folder = RunFolder(config.run_dir, resume)
    hardware = choose_hardware(device, config.precision)
    experiment = Experiment.from_config(config, hardware, load_weights=not resume)
    trainer = Trainer(experiment, folder, resume=resume)
    trainer.fit()
    if trainer.stopped:
        raise Stopped


def _is_trained(config: Config, settings: dict[str, Any]) -> bool:
    """Return whether an experiment's run folder holds its finished run; refuse other settings."""
    last = Path(config.run_dir) / "checkpoints" / LAST
    if not last.exists():
        return False
    content = load_checkpoint(last)
    changed = changes(restore_settings(content, last), settings)
    if changed:
        raise UserError(
            f"{config.run_dir} was trained with other settings ({'; '.join(changed)}); delete it, "
            "or name another folder by --out"
        )
    progress = Progress(**restore_training(content, last)["position"])
    return progress.is_finished(config.train.epochs, config.train.patience)


def other_differences(contestants: Sequence[Contestant], varied: str = DECODER) -> list[str]:
    """List the settings besides the varied key in which contestants differ from the first."""
    first, *others = contestants
    found = []
    for other in others:
        alike = {**other.settings, "seed": first.settings["seed"]}
        expected = _varied_keys(first.settings, other.settings, varied)
        changed = [
            change
            for change in changes(first.settings, alike)
            if change.partition(": ")[0] not in expected
        ]
        if changed:
            found.append(f"{other.name} differs from {first.name} in {'; '.join(changed)}")
    return found


def _varied_keys(first: dict[str, Any], other: dict[str, Any], varied: str) -> set[str]:
    """Return the keys that the varied one brings along.

    They are those in its section, and with the name of a part the options that one part has and the
    other has not.
    """
    one, two = flatten(first).keys(), flatten(other).keys()
    section = f"{varied.removesuffix('.name')}."
    inside = {key for key in one | two if f"{key}.".startswith(f"{varied}.")}
    return inside | {key for key in one ^ two if key.startswith(section)}
