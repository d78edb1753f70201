"""Plain typed values and checks; no resource is made here."""
