"""Who takes part in a comparison: experiments, trained if they are not yet, and runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segkit.checkpoint import LAST, find_checkpoint, load_checkpoint, restore_config
from segkit.config import Config, load_config
from segkit.data import Card, load_card
from segkit.data.statistics import resolve_statistics
from segkit.errors import UserError
from segkit.training.run_folder import holds_run
from segkit.training.state import Position, changes, is_finished

Train = Callable[[Config, Card, bool], None]


@dataclass
class Contestant:
    """An experiment and its trained models, one a seed.

    Args:
        name: in tables and figures.
        config: of the first run.
        card: of its data set.
        checkpoints: of each run.
    """

    name: str
    config: Config
    card: Card
    checkpoints: list[Path] = field(default_factory=list)


def gather(items: Sequence[Path], seeds: int, out: Path, train: Train) -> list[Contestant]:
    """Find the contestants, and train those that are not yet trained.

    Args:
        items: YAML files of experiments; run folders or checkpoints, of which those that differ by
            their seed alone are one contestant.
        seeds: runs of each experiment, from its own seed upwards.
        out: where the runs of experiments are, `out/NAME-seedN`.
        train: trains an experiment from the start, or goes on with it.

    Raises:
        UserError: a file that is neither, a run of other settings in the way, two of one name.
    """
    found: list[Contestant] = []
    experiments: list[Contestant] = []
    for item in items:
        if item.suffix in (".yaml", ".yml"):
            config = load_config(item)
            card = load_card(config.data.card, config.data.root)
            experiments.append(Contestant(item.stem, config, card))
            found.append(experiments[-1])
        else:
            _add_run(item, found)
    names = [contestant.name for contestant in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two contestants are called {name}; rename one of the files")
    for number in range(seeds):  # seed by seed, so that a half-done comparison is a fair one
        for contestant in experiments:
            seed = contestant.config.seed + number
            run_dir = str(out / f"{contestant.name}-seed{seed}")
            config = contestant.config.model_copy(update={"seed": seed, "run_dir": run_dir})
            if not _is_trained(config, contestant.card):
                train(config, contestant.card, holds_run(config))
            contestant.checkpoints.append(find_checkpoint(Path(run_dir)))
    return found


def _add_run(item: Path, found: list[Contestant]) -> None:
    """Add a run to the contestant that it differs from by its seed alone, or as a new one."""
    file = find_checkpoint(item)
    content = load_checkpoint(file)
    config, card = restore_config(content, file), Card.model_validate(content["card"])
    for contestant in found:
        same = config.model_copy(update={"seed": contestant.config.seed})
        if contestant.checkpoints and not changes(contestant.config, same):
            contestant.checkpoints.append(file)
            return
    folder = file.parent.parent if file.parent.name == "checkpoints" else file
    name = re.sub(r"-seed\d+$", "", folder.resolve().name)
    found.append(Contestant(name, config, card, [file]))


def _is_trained(config: Config, card: Card) -> bool:
    """Tell whether an experiment's run folder holds its finished run.

    Raises:
        UserError: it holds one of other settings.
    """
    last = Path(config.run_dir) / "checkpoints" / LAST
    if not last.exists():
        return False
    content = load_checkpoint(last)
    changed = changes(restore_config(content, last), resolve_statistics(config, card))
    if changed:
        raise UserError(
            f"{config.run_dir} was trained with other settings ({'; '.join(changed)}); delete it, "
            "or name another folder by --out"
        )
    return is_finished(Position(**content["training"]["position"]), config.train)


def other_differences(contestants: Sequence[Contestant]) -> list[str]:
    """List the settings besides model.decoder in which contestants differ from the first."""
    first = contestants[0]
    found = []
    for other in contestants[1:]:
        alike = other.config.model_copy(update={"seed": first.config.seed})
        changed = [c for c in changes(first.config, alike) if not c.startswith("model.decoder.")]
        if changed:
            found.append(f"{other.name} differs from {first.name} in {'; '.join(changed)}")
    return found
