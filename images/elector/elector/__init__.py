"""Locks with an owner, a time to live and a version, and the companion that elects with them."""
