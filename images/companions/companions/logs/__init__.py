"""Logs of several programs in one format, each entry once."""
