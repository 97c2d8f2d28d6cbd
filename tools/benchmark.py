"""Measure speed on this machine.

The same as `segkit benchmark`: see `python tools/benchmark.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
