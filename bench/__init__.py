"""Benchmarks: ratios measured side by side in one run; JSON and plots under `docs/figures/`."""
