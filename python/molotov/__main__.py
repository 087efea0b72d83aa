"""``python -m molotov`` is the ``molotov`` command."""

import sys

from molotov.run import main

sys.exit(main())
