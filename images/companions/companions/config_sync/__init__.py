"""Synchronizes a folder with its source: ConfigMaps, an HTTP document, or a git repository."""
