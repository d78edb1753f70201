"""The one error of the driver that a user is meant to read."""


class ToolchainError(Exception):
    """Says what cannot be done and what to do about it; printed without a traceback."""
