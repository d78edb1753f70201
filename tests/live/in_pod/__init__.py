"""Programs that the tests mount into their client pods; nothing of the project is imported here."""
