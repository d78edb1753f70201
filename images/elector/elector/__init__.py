"""Locks with an owner, a time to live and a version, and the leader-election sidecar."""
