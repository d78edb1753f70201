"""Prepares etcd's members, users and snapshots. Uses only the standard library."""
