"""What every training job shares: train step, stages, checkpoints, run folder, settings, command line."""
