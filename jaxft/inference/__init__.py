"""Finished models: how they predict, and how they are saved and loaded."""
