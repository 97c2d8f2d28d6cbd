"""Compare models: same data, same recipe, several seeds.

The same as `segkit compare`: see `python tools/compare.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
