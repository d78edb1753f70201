"""A Deployment, StatefulSet or Job with all that belongs to it."""
