"""AudioNet on the raw waveform.

  python -m audiojax.main --config configs/cnn.py                              91.8 ± 0.9 % on unseen synthetic voices,
                                                                               3.8 minutes each, seeds 0 to 2
  python -m audiojax.main --config configs/cnn.py:fsdd --config.data.root=DIR  96.3 ± 0.6 % on FSDD's random 20 %,
                                                                               9.5 minutes each, seeds 0 to 2
  python -m audiojax.main --config configs/cnn.py:audiomnist --config.data.root=DIR
                                                                               98.28 ± 0.48 % over the five folds of
                                                                               AudioMNIST, reconstructed, seed 0; 29.6
                                                                               minutes (fold 2), 47 on one core

Test accuracy of the checkpoint with the best validation accuracy, on 2 CPU cores unless a device is named; see also
experiments/README.md.
`recipe=seed` is the class project's training: AudioNet with BatchNorm, batch 100, a constant rate of 1e-4; on FSDD
it has 49.5 % after its 20 epochs. `recipe=becker` is what Becker et al. released: 278 epochs, of which
docs/results.md has the first seven.
`recipe=residual` is ResNet1D, a small network for sound of any length: 96.6 % on fold 0, 10 minutes.
"""

from audiojax.config import ANY_LENGTH_AUGMENT, ConfigDict, base, parse_arg, shrink, train_any_length

NUM_EPOCHS = {"synthetic": 5, "audiomnist": 7, "espeak": 10}  # of any other source: 12
RESIDUAL_EPOCHS = {"synthetic": 10, "audiomnist": 8, "espeak": 20}  # of any other source: 24
BATCH_SIZE = {"synthetic": 10}  # of any other source: 20


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; `arg` is the text after the colon, see `audiojax.config.GRAMMAR`."""
    choice = parse_arg(arg, recipes=("seed", "becker", "residual"))
    config = base(choice)
    config.model = dict(
        name="audionet",
        variant="batch_norm",
        scale="rms",
        batch_norm=True,
        dropout=0.0,
        relu_on_logits=False,
        dtype="float32",
        kernels="auto",
    )
    if choice.recipe in ("seed", "becker"):  # a small constant rate, nothing else
        config.train.update(batch_size=100, num_epochs=20)
        config.optimizer.update(schedule="constant", learning_rate=1e-4, warmup_steps=0)
        config.model.scale = "none"
    if choice.recipe == "becker":  # 50,000 steps of AudioMNIST's folds
        config.train.update(placement="random", num_epochs=278)
        config.model.update(variant="becker", scale="percentile", batch_norm=False, dropout=0.5)
    if choice.recipe == "default":
        num_epochs, batch_size = NUM_EPOCHS.get(choice.source, 12), BATCH_SIZE.get(choice.source, 20)
        config.train.update(num_epochs=num_epochs, batch_size=batch_size, label_smoothing=0.1)
        config.augment.update(speed=0.1, max_offset_samples=800, noise_snr_db=(15.0, 40.0))
        if choice.source == "audiomnist":
            config.train.update(ema_decay=0.999)
            config.optimizer.update(algorithm="adamw", learning_rate=5e-4, weight_decay=0.05, clip_norm=1.0)
            config.augment.update(ANY_LENGTH_AUGMENT, tempo=0.2, filter_db=8.0, max_margin_samples=1600)
    if choice.recipe == "residual":  # a network for any length, trained as in configs/gru.py
        config.model = dict(
            name="resnet1d",
            scale="rms",
            window_samples=80,
            hop_samples=8,
            channels=(32, 48, 64, 96, 128),
            dropout=0.3,
            dtype="float32",
        )
        train_any_length(config, choice.source, RESIDUAL_EPOCHS.get(choice.source, 24))
        config.augment.update(ANY_LENGTH_AUGMENT)
    return shrink(config) if choice.runlocal else config
