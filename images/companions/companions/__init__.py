"""Programs that run beside an application, and what they share."""
