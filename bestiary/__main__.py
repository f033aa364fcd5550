"""`python -m bestiary` is the command line."""

import sys

from bestiary.cli import main

sys.exit(main())
