"""Streaming recognition: a network and a decoder that report each word of an endless sound as soon as it ends."""
