"""The common part of this project's provider plugins: values, errors, cancellation and gRPC."""
