"""Single-node patterns: sidecar, ambassador, adapter (part I)."""
