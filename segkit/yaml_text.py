"""YAML as people and strangers write it: plain values alone, and bounded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.reader import ReaderError

from segkit.errors import UserError

MAX_SIZE = 1_000_000  # bytes; a label map of 65,536 values has fewer
MAX_DEPTH = 50  # mappings and lists inside of each other
MAX_REPEATED = 100_000  # values and characters that all aliases together repeat
MAX_DIGITS = 100  # of a number; Python refuses to print one of more than 4,300
T = TypeVar("T")
Lines = dict[tuple[str, ...], str]  # path of a key -> "file:line" or the override

_TAG = "tag:yaml.org,2002:"
_KEYS = {f"{_TAG}{kind}" for kind in ("str", "int", "merge")}
_NUMBERS = {f"{_TAG}{kind}" for kind in ("int", "float")}
_VALUES = _KEYS | _NUMBERS | {f"{_TAG}{kind}" for kind in ("null", "bool", "seq", "map")}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # can be written escaped, but stands in no file or path


class _Loader(yaml.SafeLoader):
    """Reads text, numbers, switches, null, lists and mappings; a date is text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.size = 0  # values and characters so far
        self.repeated = 0  # of these, what aliases repeat
        self.sizes: dict[str, int] = {}  # of what each anchor names

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value within the limits."""
        event = self.peek_event()
        before = self.size
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors:
            if event.anchor not in self.sizes:
                raise _mistake("an alias stands inside of what it repeats", event)
            self.size += self.sizes[event.anchor]
            self.repeated += self.sizes[event.anchor]
        self.size += 1 + len(getattr(event, "value", ""))
        if self.repeated > MAX_REPEATED:
            raise _mistake("aliases repeat too much; write out what is meant", event)
        if self.depth == MAX_DEPTH:
            raise _mistake(f"more than {MAX_DEPTH} levels of lists and mappings", event)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if not is_alias and event.anchor is not None:
            self.sizes[event.anchor] = self.size - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value, or say where one stands that does not fit its type."""
        kind = node.tag.removeprefix(_TAG)
        if node.tag not in _VALUES:
            raise _mistake(f"values of type {kind} are not read here", node)
        if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
            raise _mistake("text with a null byte or half a character", node)
        if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise _mistake(f"a number of more than {MAX_DIGITS} digits", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError) as error:
            raise _mistake(f"{node.value!r:.40} is no value of type {kind}", node) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != f"{_TAG}timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, source: str, *, numbered: bool = True) -> tuple[Any, Lines]:
    """Read a YAML document, and where each of its keys stands.

    Args:
        text: of the document.
        source: its file or option, for errors.
        numbered: whether errors name the line beside the column.

    Raises:
        UserError: broken YAML, values of other types than JSON has, keys that are neither text nor
            whole numbers or are given twice, or more than this module's limits.
    """

    def construct(loader: _Loader) -> tuple[Any, Lines]:
        root = loader.get_single_node()
        lines: Lines = {}
        _record_lines(root, (), source, lines)
        return None if root is None else loader.construct_document(root), lines

    return _read(text, source, numbered, construct)


def split_list(text: str, source: str) -> list[str]:
    """Return the items of a YAML list on one line, each as it is written; see `parse_yaml`."""
    root = _read(text, source, False, _Loader.get_single_node)
    items = root.value if isinstance(root, yaml.SequenceNode) else []
    return [text[item.start_mark.index : item.end_mark.index] for item in items]


def read_yaml_file(path: Path) -> tuple[Any, Lines]:
    """Read a YAML file, see `parse_yaml`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise _too_large(str(path))
        text = content.decode("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as YAML: {why}") from error
    return parse_yaml(text, str(path))


def _read(text: str, source: str, numbered: bool, use: Callable[[_Loader], T]) -> T:
    """Return what `use` makes of a document; tell its errors with their place."""
    if len(text) > MAX_SIZE:
        raise _too_large(source)
    try:
        loader = _Loader(text)
        try:
            return use(loader)
        except UserError:
            raise
        except (ValueError, OverflowError) as error:  # of an escape that stands for no character
            mark: Any = loader.get_mark()
            raise yaml.MarkedYAMLError(None, None, str(error), mark) from error
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        position = at.index if at else 0
        problem = error.problem or error.context or "it is broken"
        cause: Exception = error
    except ReaderError as error:
        position = error.position
        problem = f"the character #x{error.character:04x} is not allowed"
        cause = error
    before = text[:position]
    line = before.count("\n") + 1
    place = f"{source}:{line}" if numbered else source
    column = len(before) - before.rfind("\n")
    raise UserError(f"{place}: cannot be read as YAML: column {column}: {problem}") from cause


def _too_large(source: str) -> UserError:
    return UserError(f"{source}: is larger than {MAX_SIZE:,} bytes; name another YAML file")


def _mistake(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, at.start_mark)


def _record_lines(node: yaml.Node | None, at: tuple[str, ...], source: str, lines: Lines) -> None:
    """Note where each key and list item stands; YAML itself would let a second one win."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag not in _KEYS or not isinstance(key, yaml.ScalarNode):
                raise _mistake("a key must be text or a whole number; put it in quotes", key)
            here = (*at, key.value)
            where = f"{source}:{key.start_mark.line + 1}"
            if here in lines:
                dotted = ".".join(here)
                raise UserError(f"{where}: {dotted} is given twice, first at {lines[here]}")
            lines[here] = where
            _record_lines(value, here, source, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*at, str(index))
            lines[here] = f"{source}:{value.start_mark.line + 1}"
            _record_lines(value, here, source, lines)
