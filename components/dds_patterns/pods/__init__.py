"""What every pod shares: hardening, companions, listeners, labels and probes."""
