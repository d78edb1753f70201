"""What every provider plugin of this project shares: values, errors, cancellation and gRPC."""
