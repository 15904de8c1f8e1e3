"""From sound files to batches: numpy, soundfile and soxr only, no jax."""
