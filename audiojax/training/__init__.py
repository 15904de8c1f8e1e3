"""The training loop, its steps, checkpoints and logs."""
