"""Load generators that run inside the cluster; nothing of the project is imported here."""
