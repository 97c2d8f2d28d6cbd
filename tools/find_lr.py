"""Suggest a learning rate: train a little while it rises, and see where the loss falls fastest.

The same as `segkit find-lr`: see `python tools/find_lr.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["find-lr", *sys.argv[1:]]))
