"""The commands of `segkit`: a module each, with `add_arguments(parser)` and `run(arguments)`.

The docstring of a module is the help of its command. `tools/*.py` run the same commands.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

import segkit
from segkit.commands.options import add_common
from segkit.errors import UserError, as_mistake
from segkit.invocation import started_as
from segkit.registry import import_parts

COMMANDS = (
    *("new", "train", "eval", "predict", "export", "push", "compare", "runs", "config", "summary"),
    *("check-data", "browse", "similar", "fetch-data", "find-lr", "benchmark"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `segkit COMMAND ...` and return its exit code.

    A user's mistake, or a refusal of the system, is one message and exit code 2; Ctrl-C is 130.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that the console lacks becomes a "?"
            stream.reconfigure(errors="replace")
    try:
        if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
            import argcomplete

            argcomplete.autocomplete(build_parser())
        is_chosen = bool(words) and words[0] in COMMANDS
        arguments = build_parser(words[:1] if is_chosen else COMMANDS).parse_args(words)
        import_parts(arguments.imports)
        code: int = load(arguments.command).run(arguments)
        return code
    except BrokenPipeError:  # whoever reads what is printed, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        known = error if isinstance(error, KeyboardInterrupt) else as_mistake(error)
        if known is None or "--debug" in words:
            _tell_torchrun(f"{type(error).__name__}: {error}")
            raise
        return _tell(known)


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Build the parser of some commands; the modules of the others are not imported."""
    parser = argparse.ArgumentParser(
        prog="segkit",
        description="Semantic segmentation in PyTorch, with the decoder as the variable.",
        epilog="`segkit COMMAND --help` tells more. Exit codes: 0 done, 1 done with something to "
        "report, 2 a mistake, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"segkit {segkit.__version__}")
    chosen = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        module = load(name)
        text = re.sub("^(segkit|torchrun) ", r"    \1 ", module.__doc__ or "", flags=re.MULTILINE)
        command = chosen.add_parser(
            name,
            prog=" ".join(started_as(name)),
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_common(command)
        module.add_arguments(command)
    return parser


def load(command: str) -> ModuleType:
    """Import the module of a command."""
    return import_module(f"{__name__}.{command.replace('-', '_')}")


def _tell_torchrun(message: str) -> None:
    """Give torchrun a message for the page that it ends with, where it stands beside the rank."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with suppress(OSError):
            Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time())}))


def _tell(error: UserError | KeyboardInterrupt) -> int:
    from segkit.console import complain  # loads rich

    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of torchrun's processes here
    if isinstance(error, UserError):
        if error.is_common and not is_first:
            time.sleep(30)  # the first one tells it and ends, and then torchrun ends this one
        complain(f"error: {error}")
        _tell_torchrun(f"error: {error}")
        return 2
    if is_first:
        complain("interrupted")
    return 130
