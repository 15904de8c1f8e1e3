"""Audio signal processing in numpy: reading, resampling, noise and reverberation."""
