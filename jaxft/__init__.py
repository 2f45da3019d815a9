"""Fine-tuning for JAX: schedules, layer-wise optimizers and parameter averages for any pytree."""
