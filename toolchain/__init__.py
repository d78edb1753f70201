"""The driver, which the Makefile calls and which runs the Pulumi CLI."""
