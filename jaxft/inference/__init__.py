"""Finished models: their folders, and what they predict."""
