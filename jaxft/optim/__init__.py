"""Optimization for any training loop: schedules, parameter groups, optimizers, averages, monitors and plans."""
