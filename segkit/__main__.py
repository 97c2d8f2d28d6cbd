"""`python -m segkit COMMAND`, the same as `segkit COMMAND`."""

import sys

from segkit.commands import main

if __name__ == "__main__":
    sys.exit(main())
