"""`python -m edgeret` is the command `edgeret`."""

import sys

from edgeret.cli import main

if __name__ == "__main__":
    sys.exit(main())
