"""The live page: recognises words from a browser's microphone, files and sample words, for many clients at once."""
