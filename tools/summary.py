"""Show what a model is made of and costs, without data, weights or running it.

The same as `segkit summary`: see `python tools/summary.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["summary", *sys.argv[1:]]))
