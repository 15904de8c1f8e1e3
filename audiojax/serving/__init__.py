"""The live page's server: a page in the browser shows the words that are recognised in the sound of its microphone."""
