"""Recognition of words in sound of any length."""
