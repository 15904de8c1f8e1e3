"""Streaming recognition: a network and a decoder that report each word of a continuous stream as soon as it ends."""
