"""Sequence labelling with a BiLSTM-CRF: `python -m jaxft.ner`."""
