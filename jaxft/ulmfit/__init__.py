"""ULMFiT: from raw texts to a classifier, `python -m jaxft.ulmfit`."""
