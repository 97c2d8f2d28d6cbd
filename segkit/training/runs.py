"""The runs below a folder: how far each has come, and in which settings they differ."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.checkpoint import LAST, PREVIOUS
from segkit.config import TrainConfig
from segkit.config.flatten import flatten
from segkit.config.load import RUN_CONFIG
from segkit.config.run import ENVIRONMENT
from segkit.training.progress import Progress
from segkit.yaml_text import read_yaml_file

NOT_COMPARED = ("run_dir",)


@dataclass(frozen=True)
class RunSummary:
    """A run folder at a glance.

    Args:
        path: of the folder.
        state: `finished`, `running` (in a process of this machine) or `stopped`.
        epochs: done.
        planned: epochs to be done; None if that was not recorded.
        minutes: of training steps; None if they were not recorded.
        miou: the best of its validations; None before the first.
        loss: of the last epoch.
        settings: by dotted key.
    """

    path: Path
    state: str
    epochs: int
    planned: int | None
    minutes: float | None
    miou: float | None
    loss: float | None
    settings: dict[str, Any]


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
    history = [json.loads(line) for line in _read(path / "metrics.jsonl").splitlines()]
    facts = json.loads(_read(path / ENVIRONMENT) or "{}")
    file = path / RUN_CONFIG
    config = (read_yaml_file(file)[0] if file.is_file() else None) or facts.get("settings") or {}
    train = config.get("train", {})
    scores = [row["miou"] for row in history if "miou" in row]
    best = max(scores, default=None)
    best_epoch = 0 if best is None else 1 + [row.get("miou") for row in history].index(best)
    progress = Progress(epoch=len(history), best_epoch=best_epoch, history=history)
    planned = train.get("epochs")
    is_done = planned is not None and progress.is_finished(TrainConfig.model_construct(**train))
    seconds = [row.get("seconds") for row in history]
    return RunSummary(
        path=path,
        state="finished" if is_done else "running" if _is_running(facts) else "stopped",
        epochs=len(history),
        planned=planned,
        minutes=None if not seconds or None in seconds else sum(seconds) / 60,
        miou=best,
        loss=history[-1]["loss"] if history else None,
        settings=flatten(config),
    )


def _is_running(facts: dict[str, Any]) -> bool:
    """Whether the process that a run's environment tells of is still there."""
    if facts.get("host") != platform.node() or not facts.get("pid"):
        return False
    try:
        os.kill(facts["pid"], 0)
    except PermissionError:
        return True  # it is another user's
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
