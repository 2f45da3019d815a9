"""Flax NNX modules and their parts, and readers and writers of other libraries' weights."""
