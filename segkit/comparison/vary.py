"""One experiment with one key in several values: what `--vary KEY=A,B` compares."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.config import Config, load_config
from segkit.errors import UserError
from segkit.hub import Source
from segkit.shipped import find
from segkit.yaml_text import split_list

# what Windows forbids in the name of a file, and % itself, which is written in front of the code
FORBIDDEN = re.compile(r'[<>:"/\\|?*%\x00-\x1f]')
LONGEST = 100  # characters in the name of a folder
INSTEAD = {  # keys that say how runs are made and kept, and the options that set them
    "seed": "each value is trained with several seeds anyway, see --seeds",
    "run_dir": "runs are written below --out",
}


@dataclass(frozen=True)
class Vary:
    """An experiment, a key of it, and the values to give it, as they are written in YAML."""

    file: Path
    key: str
    values: tuple[str, ...]

    @property
    def section(self) -> str:
        """The key, without the `.name` by which a part is chosen."""
        return self.key.removesuffix(".name")

    def name_of(self, value: str) -> str:
        """Return what the contestant of a value is called.

        >>> Vary(Path("my.yaml"), "train.loss.name", ("dice", "lovasz")).name_of("dice")
        'loss=dice'
        """
        return f"{self.section.rpartition('.')[2]}={value}"


def is_experiment(file: Path) -> bool:
    """Return whether a file is an experiment, and not a run or a model."""
    return file.suffix in (".yaml", ".yml")


def parse_vary(text: str, models: Sequence[Source]) -> Vary:
    """Read `KEY=A,B`; the values are the items of a YAML list, so that they may be lists too.

    Args:
        text: the key and its values.
        models: the one experiment to vary it in: a YAML file, or the name of a shipped one.

    >>> parse_vary("model.decoder.widths=[16,32],[8,16]", ["my.yaml"]).values
    ('[16,32]', '[8,16]')
    """
    files = [find("configs", model) for model in models]
    if len(files) != 1 or not is_experiment(files[0]):
        raise UserError(
            f"--vary {text}: name the one experiment (YAML) to vary it in, instead of "
            f"{', '.join(map(str, models))}"
        )
    key, _, values = text.partition("=")
    key = key.strip()
    try:  # as they are written, since --set reads 1e-3 or 2024 by the type of the key
        found = tuple(split_list(f"[{values}]", f"--vary {text}"))
    except UserError as error:
        raise UserError(
            f"{error}; write KEY=A,B, and values with commas in quotes or brackets"
        ) from error
    if not key or len(found) < 2:
        raise UserError(
            f"--vary {text}: name a key and two values or more, e.g. "
            "--vary train.loss.name=cross_entropy,lovasz"
        )
    if key in INSTEAD:
        raise UserError(f"--vary {text}: {key} cannot be varied; {INSTEAD[key]}")
    return Vary(files[0], key, found)


def load_varied(
    vary: Vary, overrides: Sequence[str] = (), data_root: str | None = None
) -> dict[str, Config]:
    """Read an experiment once for each value; gives the configs by the names of contestants.

    Args:
        vary: the experiment, the key and its values.
        overrides: `a.b=c` each, of all of them.
        data_root: folder of the data; None: where the experiment says.

    Raises:
        UserError: a value that does not fit, one that is given twice, or one that is also set.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if f"{key}.".startswith(f"{vary.key}."):
            raise UserError(f"--set {override}: --vary sets {vary.key}; leave one of the two out")
    found: dict[str, Config] = {}
    for index, value in enumerate(vary.values):
        config = _load(vary, value, overrides, data_root)
        for other, known in zip(vary.values[:index], found.values(), strict=True):
            if config == known:
                raise UserError(
                    f"--vary {vary.key}: {other} and {value} are the same value; leave one out"
                )
        found[vary.name_of(value)] = config
    return found


def _load(vary: Vary, value: str, overrides: Sequence[str], data_root: str | None) -> Config:
    varied = f"{vary.key}={value}"
    try:
        return load_config(vary.file, overrides, data_root, varied)
    except UserError as error:
        told = str(error)
        if not told.startswith("--vary "):  # another line is told, perhaps because of the value
            told = f"with --vary {varied}: {told}"
        if _fits_as_a_whole(vary, value, overrides, data_root):
            told += (
                f"\noptions in the file belong to another {vary.section}; --vary {vary.section}="
                f"{','.join(vary.values)} takes each with its defaults"
            )
        raise UserError(told) from error


def _fits_as_a_whole(
    vary: Vary, value: str, overrides: Sequence[str], data_root: str | None
) -> bool:
    """Return whether the value names a part that fits without the options that are given."""
    if vary.section == vary.key:
        return False
    try:
        load_config(vary.file, overrides, data_root, f"{vary.section}={value}")
    except UserError:
        return False
    return True


def folder_name(name: str) -> str:
    """Return a name as one that every system takes for a folder; others stay different.

    >>> folder_name("weights=hf://me/vgg")
    'weights=hf%3A%2F%2Fme%2Fvgg'
    """
    safe = FORBIDDEN.sub(lambda found: f"%{ord(found[0]):02X}", name)
    if len(safe) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        safe = f"{safe[:LONGEST].rstrip()}~{digest}"
    return safe
