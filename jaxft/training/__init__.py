"""What every training job shares: the train step, stages, checkpoints, the run folder, settings and the command line."""
