"""Publish a run on the Hugging Face hub.

The same as `segkit push`: see `python tools/push.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
