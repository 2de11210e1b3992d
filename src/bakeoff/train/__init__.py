"""Training: a recipe as data, a loop that yields facts, checkpoints that resume exactly."""
