"""`python -m segkit COMMAND`, the same as `segkit COMMAND`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from segkit.interrupt import Interrupts, leave


def main(argv: Sequence[str] | None = None) -> int:
    """Run `segkit COMMAND ...` and return its exit code; an interrupt is quiet from here on."""
    interrupts = Interrupts()
    interrupts.install()
    from segkit.commands import main as run

    try:
        interrupts.working = True
        return run(argv)
    except KeyboardInterrupt:
        if "--debug" in (argv or sys.argv):
            raise
        leave()  # it came at the very end
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter ends in a moment


if __name__ == "__main__":
    sys.exit(main())
