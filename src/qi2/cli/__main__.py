"""``python -m qi2.cli``."""

import sys

from qi2.cli import main

sys.exit(main())
