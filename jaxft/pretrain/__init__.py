"""Training of a language model on any text: `python -m jaxft.pretrain`."""
