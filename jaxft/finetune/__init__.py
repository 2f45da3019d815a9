"""Fine-tuning of a transformer encoder: `python -m jaxft.finetune`."""
