"""`python -m qcompile.runtime`."""

import sys

from qcompile.runtime.cli import main

sys.exit(main())
