"""What every test relies on."""

from __future__ import annotations

import signal

# A shell starts its background jobs with SIGINT ignored, and everything they start inherits that: the tests
# of Ctrl-C would then depend on how the test runner was started.
signal.signal(signal.SIGINT, signal.default_int_handler)
