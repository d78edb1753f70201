"""A resource provider for Kubernetes, for machines that cannot have Pulumi's own.

It stands in for pulumi-resource-kubernetes 4.34.2: same tokens, same state. What it does not
support is refused by name when a resource is checked.
"""
