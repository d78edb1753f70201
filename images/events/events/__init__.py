"""What stands between an event bus and the programs that events are for."""
