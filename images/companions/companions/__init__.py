"""Programs that run beside an application, and their common modules."""
