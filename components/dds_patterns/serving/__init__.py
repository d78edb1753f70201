"""Serving patterns: many nodes that answer requests (part II)."""
