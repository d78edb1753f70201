"""Pulumi programs that the live tests and the bench deploy as throw-away stacks."""
