"""What every room stands on: files and tensors on disk, the shards of a batch, and the limits of numbers."""
