"""When an object counts as ready: one module a kind, `rules.py` says which kind has which."""
