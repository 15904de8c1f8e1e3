"""Sound as numpy arrays: one preprocessing, resampling, noise and rooms."""
