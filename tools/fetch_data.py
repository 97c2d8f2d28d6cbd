"""Fetch a data set to where its card in datasets/ expects it.

The same as `segkit fetch-data`: see `python tools/fetch_data.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["fetch-data", *sys.argv[1:]]))
