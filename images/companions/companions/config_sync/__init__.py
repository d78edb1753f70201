"""Keeps a folder like its source: ConfigMaps, an HTTP document, or a git repository."""
