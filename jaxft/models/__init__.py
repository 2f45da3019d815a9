"""Flax NNX modules and their parts: models know no optimizer."""
