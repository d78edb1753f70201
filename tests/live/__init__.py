"""Proofs against the project's own cluster: `make up` first."""
