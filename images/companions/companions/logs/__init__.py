"""Logs of several programs in one form, each entry once."""
