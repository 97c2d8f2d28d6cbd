"""Train a model as a YAML file describes.

The same as `segkit train`: see `python tools/train.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
