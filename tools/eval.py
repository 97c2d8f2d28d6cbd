"""Evaluate a checkpoint on a split of its data set.

The same as `segkit eval`: see `python tools/eval.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
