"""Data pipeline from sound files to batches, without jax."""
