"""Shared by all packages: files and tensors on disk, batches on several devices, and the range of numbers."""
