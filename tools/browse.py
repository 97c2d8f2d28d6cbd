"""Draw samples as the network sees them: images, classes over them, a legend.

The same as `segkit browse`: see `python tools/browse.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["browse", *sys.argv[1:]]))
