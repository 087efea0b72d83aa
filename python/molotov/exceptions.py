"""The exceptions that Molotov itself raises."""

from __future__ import annotations

__all__ = ["FixtureError", "OptionError", "RunError"]


class OptionError(Exception):
    """A configuration file, or an option in it, that cannot be used. Its text is one plain line."""


class RunError(Exception):
    """The machine does not let the run start. Its text is one plain line."""


class FixtureError(Exception):
    """A ``setup`` or ``setup_session`` fixture failed: the worker ends without running a scenario."""
