"""Read a whole data set and report all that is wrong with it.

The same as `segkit check-data`: see `python tools/check_data.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["check-data", *sys.argv[1:]]))
