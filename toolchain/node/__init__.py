"""The project's own Kubernetes node image, for machines that reach no container registry."""
