"""audiojax: spoken-digit recognition in JAX. Importing the package imports nothing heavy."""

__version__ = "0.1.0"
