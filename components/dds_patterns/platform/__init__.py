"""What the patterns run on: cluster, images, smoke tests, generated values."""
