"""Runs `experiments.protocols.protocol`: `python -m experiments.protocols PROTOCOL --config configs/NAME.py`."""

from audiojax import cli
from experiments.protocols.protocol import main

if __name__ == "__main__":
    cli.run(main)
