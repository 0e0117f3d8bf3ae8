"""`python -m distillery_trainer` is `distill`."""

import sys

from .cli import main

sys.exit(main())
