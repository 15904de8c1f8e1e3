"""MelCNN, a small residual network on log-mel frames, for sound of any length; and AlexNet on spectrograms.

  python -m audiojax.main --config configs/spectrogram.py:audiomnist --config.data.root=DIR
                       AudioMNIST, reconstructed: 99.37 ± 0.27 % over the five folds, 5.4 minutes (median), seed 0
  python -m audiojax.main --config configs/spectrogram.py:audiomnist,recipe=filterbank --config.data.root=DIR
                       the same network with trainable filters and bands: 99.40 ± 0.20 %, 6.0 minutes

Test accuracy of the checkpoint with the best validation accuracy, on 2 CPU cores while another run took place.
`recipe=alexnet` is what Becker et al. released for spectrograms: 56 epochs, not run here.
"""

from audiojax.config import ANY_LENGTH_AUGMENT, ConfigDict, base, parse_arg, shrink, train_any_length

NUM_EPOCHS = {"synthetic": 12, "audiomnist": 4, "espeak": 12}  # of any other source: 25


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; `arg` is the text after the colon, see `audiojax.config.GRAMMAR`."""
    choice = parse_arg(arg, recipes=("alexnet", "filterbank"))
    config = base(choice)
    if choice.recipe == "alexnet":  # as Becker et al. released it: 10,000 steps of AudioMNIST's folds
        config.model = dict(name="alexnet", dropout=0.5, dtype="float32", kernels="auto")
        config.train.update(batch_size=100, length_samples=8000, placement="random", num_epochs=56)
        config.optimizer.update(schedule="halving", learning_rate=1e-3, warmup_steps=0, clip_norm=5.0)
    if choice.recipe in ("default", "filterbank"):
        config.model = dict(
            name="melcnn",
            frontend="filterbank" if choice.recipe == "filterbank" else "logmel",
            window_samples=200,
            hop_samples=80,
            num_bands=40,
            low_hz=50.0,
            high_hz=4000.0,
            silence_samples=400,
            normalise="clip",
            channels=(16, 24, 48, 96),
            dropout=0.3,
            dtype="float32",
            kernels="auto",
        )
        train_any_length(config, choice.source, NUM_EPOCHS.get(choice.source, 25))
        config.augment.update(ANY_LENGTH_AUGMENT, max_margin_samples=1600)
    return shrink(config) if choice.runlocal else config
