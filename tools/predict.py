"""Predict images and videos with a checkpoint.

The same as `segkit predict`: see `python tools/predict.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
