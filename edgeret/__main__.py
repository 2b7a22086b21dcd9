"""`python -m edgeret` is the command `edgeret`."""

import sys

from edgeret.shell.cli import main

if __name__ == "__main__":
    sys.exit(main())
