"""The live page: a browser's microphone, files and sample words in, spoken words out, for many people at once."""
