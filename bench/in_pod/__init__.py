"""Load generators that run inside the cluster; they import nothing else of the project."""
