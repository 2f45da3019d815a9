"""The optimisation parts, for any loop: schedules, groups, optimizers, averages, monitors and plans of phases."""
