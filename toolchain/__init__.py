"""The driver: what stands between `make` and Pulumi's own engine."""
