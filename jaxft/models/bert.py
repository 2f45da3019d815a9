"""Reads a checkpoint of BERT or of its relatives: the stable name of `jaxft.models.encoders.load`."""

from jaxft.models.encoders import load

__all__ = ["load"]
