"""Open registries: parts by kind and name, those of segkit and those of the user.

    @register("decoder", "mine")
    class MyDecoder(Decoder): ...

The keys of a part in YAML are the options of its constructor. Code is named by the user alone, on
the command line or by an installed package; a YAML file or a checkpoint never imports anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from segkit.errors import UserError, unknown_name

HOMES = {  # kind -> the module whose import registers segkit's own parts
    "encoder": "segkit.encoders",
    "decoder": "segkit.decoders",
    "loss": "segkit.losses",
    "transform": "segkit.data.transforms",
    "optimizer": "segkit.optim",
    "schedule": "segkit.optim",
}
ENTRY_POINTS = "segkit.parts"  # the group by which installed packages offer parts

PartT = TypeVar("PartT", bound=Callable[..., Any])
_parts: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in HOMES}
_families: dict[tuple[str, str], Callable[[str], Callable[..., Any]]] = {}
_imported: list[str] = []


class Bounds(NamedTuple):
    """The range of a number, as `Annotated[float, Bounds(ge=0, lt=1)]` in a constructor.

    Args:
        gt: it is greater.
        ge: it is greater or equal.
        lt: it is less.
        le: it is less or equal.
    """

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None


def register(kind: str, name: str) -> Callable[[PartT], PartT]:
    """Register a part under the name that it has in YAML.

    Args:
        kind: `encoder`, `decoder`, `loss`, `transform`, `optimizer` or `schedule`.
        name: of the part.

    Returns:
        A decorator for the class or function that builds the part; it returns it unchanged.

    Raises:
        UserError: an unknown kind, or another part has that name.

    >>> @register("loss", "zero")
    ... def zero():
    ...     return lambda logits, target: 0 * logits.sum()
    >>> find("loss", "zero") is zero
    True
    >>> unregister("loss", "zero")
    """
    if kind not in HOMES:
        raise unknown_name("kind of part", kind, HOMES)

    def decorate(part: PartT) -> PartT:
        known = _parts[kind].get(name)
        # a module that is imported anew, as notebooks do, replaces its own parts
        if known is not None and _identity(known) != _identity(part):
            raise UserError(
                f"the {kind} '{name}' is registered already, by {known.__module__}; choose another "
                "name"
            )
        _parts[kind][name] = part
        return part

    return decorate


def register_family(kind: str, prefix: str) -> Callable[[PartT], PartT]:
    """Register a function that returns the part for each name `prefix:NAME`, given `NAME`.

    It raises a `UserError` for a name that it does not know.
    """

    def decorate(family: PartT) -> PartT:
        _families[kind, prefix] = family
        return family

    return decorate


def unregister(kind: str, name: str) -> None:
    """Remove a part; a part that is not registered is no error."""
    _parts[kind].pop(name, None)


def find(kind: str, name: str) -> Callable[..., Any]:
    """Return the class or function that builds a part.

    Raises:
        UserError: no part has that name; the message lists the known ones and the nearest.
    """
    known = names(kind)
    if (family := _family_of(kind, name)) is not None:
        return family(name.partition(":")[2])
    if name not in known:
        raise unknown_name(kind, name, known)
    return _parts[kind][name]


def is_known(kind: str, name: str) -> bool:
    """Return whether a part, or a family of the name's prefix, is registered."""
    return name in names(kind) or _family_of(kind, name) is not None


def _family_of(kind: str, name: str) -> Callable[[str], Callable[..., Any]] | None:
    prefix, _, rest = name.partition(":")
    return _families.get((kind, prefix)) if rest else None


def names(kind: str) -> list[str]:
    """Return the names of all parts of a kind, in the order of registration."""
    importlib.import_module(HOMES[kind])
    _import_entry_points()
    return list(_parts[kind])


def families(kind: str) -> list[str]:
    """Return the prefixes of a kind's names `prefix:NAME`."""
    names(kind)  # imports what registers them
    return [prefix for of, prefix in _families if of == kind]


def import_parts(modules: Sequence[str]) -> None:
    """Import the user's modules, which register their parts.

    Args:
        modules: names of modules, or paths of `.py` files.

    Raises:
        UserError: no such module, or an error while it was imported.
    """
    for given in modules:
        try:
            _import_file(Path(given)) if given.endswith(".py") else importlib.import_module(given)
        except UserError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise UserError(
                f"--import {given}: {type(error).__name__}: {error}; name a module that Python "
                "finds, or the path of a .py file"
            ) from error
        if given not in _imported:
            _imported.append(given)


def imported() -> tuple[str, ...]:
    """Return what `import_parts` has imported, as the user named it."""
    return tuple(_imported)


def _import_file(path: Path) -> None:
    """Import a file as the module of its name, so that other processes can do so too."""
    if not path.is_file():
        raise UserError(f"--import {path}: there is no such file")
    folder, name = str(path.resolve().parent), path.stem
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.import_module(name)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise UserError(f"--import {path}: Python knows another module '{name}'; rename the file")


@cache
def _import_entry_points() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # whatever the package's code raises
            raise UserError(
                f"the installed package of '{point.value}' offers parts of segkit, but its import "
                f"failed: {type(error).__name__}: {error}; mend or uninstall it"
            ) from error


def _identity(part: Callable[..., Any]) -> tuple[str, str]:
    return part.__module__, getattr(part, "__qualname__", repr(part))
