"""What the live tests and the bench share: cluster access, faults, throw-away stacks, clients."""
