"""The runs below a folder: how far each has come, and in which settings they differ."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from segkit.checkpoint import LAST, PREVIOUS
from segkit.checkpoint_schema import first_problem
from segkit.config.flatten import flatten
from segkit.config.load import RUN_CONFIG
from segkit.config.run import ENVIRONMENT, HISTORY
from segkit.errors import UserError
from segkit.training.progress import Progress
from segkit.yaml_text import read_yaml_file

NOT_COMPARED = ("run_dir",)
_ROW = TypeAdapter(dict[str, float | None])


class _Facts(BaseModel):
    """What is used of a run's `env.json`."""

    host: str | None = None
    pid: Annotated[int, Field(gt=0, lt=1 << 31)] | None = None
    settings: dict[str, Any] | None = None


class _Plan(BaseModel):
    """What is used of a config's `train`; a run may have options that are not known here."""

    epochs: int | None = None
    patience: int | None = None


class _Settings(BaseModel):
    train: _Plan = _Plan()


@dataclass(frozen=True)
class RunSummary:
    """A run folder at a glance.

    Args:
        path: of the folder.
        state: `finished`, `running` (in a process of this machine), `stopped`, or `damaged`, where
            its records cannot be read.
        epochs: done.
        planned: epochs to be done; None if that was not recorded.
        minutes: of training steps; None if they were not recorded.
        miou: the best of its validations; None before the first.
        loss: of the last epoch.
        settings: by dotted key.
        problem: what is damaged.
    """

    path: Path
    state: str
    epochs: int
    planned: int | None
    minutes: float | None
    miou: float | None
    loss: float | None
    settings: dict[str, Any]
    problem: str | None = None


def find_runs(folder: Path) -> list[RunSummary]:
    """Summarize all run folders below a folder, or the folder itself, sorted by path."""
    checkpoints = {
        path.parent.parent
        for name in (LAST, PREVIOUS)
        for path in folder.rglob(f"checkpoints/{name}")
    }
    return [_summarize(path) for path in sorted(checkpoints)]


def differing_settings(runs: list[RunSummary]) -> list[str]:
    """Return the keys in which runs differ.

    Options of a part, such as a decoder, are compared among the runs with that part alone. Those of
    the data come last.
    """
    settings = [run.settings for run in runs if run.settings]
    known = {key for each in settings for key in each} - set(NOT_COMPARED)
    keys = sorted(known, key=lambda key: (key.startswith("data."), key))
    return [key for key in keys if _differs(key, settings)]


def _differs(key: str, settings: list[dict[str, Any]]) -> bool:
    name = f"{key.rpartition('.')[0]}.name"  # of the part that the key is an option of, if any
    by_part: dict[Any, set[str]] = {}
    for each in settings:
        part = None if key == name else each.get(name)
        by_part.setdefault(part, set()).add(repr(each.get(key)))
    return any(len(values) > 1 for values in by_part.values())


def _summarize(path: Path) -> RunSummary:
    file = path  # that is read
    try:
        file = path / HISTORY
        history = [_ROW.validate_json(line) for line in _read(file).splitlines()]
        file = path / ENVIRONMENT
        facts = _Facts.model_validate_json(_read(file) or "{}")
        file = path / RUN_CONFIG
        settings = (read_yaml_file(file)[0] if file.is_file() else None) or facts.settings or {}
        plan = _Settings.model_validate(settings).train
    except UserError as error:  # which names the file
        return _damaged(path, str(error))
    except ValueError as error:
        return _damaged(path, f"{file}: {first_problem(error)}")
    scores = [row.get("miou") for row in history]
    best = max((score for score in scores if score is not None), default=None)
    best_epoch = 0 if best is None else 1 + scores.index(best)
    progress = Progress(epoch=len(history), best_epoch=best_epoch, history=history)
    is_done = plan.epochs is not None and progress.is_finished(plan.epochs, plan.patience)
    seconds = [second for row in history if (second := row.get("seconds")) is not None]
    return RunSummary(
        path=path,
        state="finished" if is_done else "running" if _is_running(facts) else "stopped",
        epochs=len(history),
        planned=plan.epochs,
        minutes=sum(seconds) / 60 if history and len(seconds) == len(history) else None,
        miou=best,
        loss=history[-1].get("loss") if history else None,
        settings=flatten(settings),
    )


def _damaged(path: Path, problem: str) -> RunSummary:
    return RunSummary(path, "damaged", 0, None, None, None, None, {}, problem)


def _is_running(facts: _Facts) -> bool:
    """Whether the process that a run's environment tells of is still there."""
    if facts.host != platform.node() or facts.pid is None:
        return False
    try:
        os.kill(facts.pid, 0)
    except PermissionError:
        return True  # it is another user's
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
