"""Find the images of a folder that look most like one, and draw them.

The same as `segkit similar`: see `python tools/similar.py --help`.
"""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["similar", *sys.argv[1:]]))
