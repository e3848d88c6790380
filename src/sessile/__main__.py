"""`python -m sessile`: see sessile.cli."""

import sys

from sessile.cli import main

if __name__ == "__main__":
    sys.exit(main())
