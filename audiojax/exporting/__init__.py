"""Export of networks as programs that run without this package."""
