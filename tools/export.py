"""Export a checkpoint to files for other runtimes.

The same as `segkit export`: see `python tools/export.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
