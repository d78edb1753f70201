"""The driver's error for users."""


class ToolchainError(Exception):
    """The message says what failed and what to do; it is printed without a traceback."""
