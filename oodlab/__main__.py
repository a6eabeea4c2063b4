"""`python -m oodlab`: the command.

Imports: batch.
"""

import sys

from oodlab.batch.command import main

if __name__ == "__main__":
    sys.exit(main())
