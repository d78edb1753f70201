"""Programs between an event bus and the services that process events."""
