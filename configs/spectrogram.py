"""A small residual CNN on log-mel frames, for sound of any length.

python -m audiojax.main --config configs/spectrogram.py:audiomnist --config.data.root=DIR
"""

from audiojax.config import base, parse_arg, shrink

NUM_EPOCHS = {"synthetic": 12, "fsdd": 25, "audiomnist": 6, "folder": 25, "espeak": 12}
BUCKET_SAMPLES = {"synthetic": (5200, 6400, 7600), "fsdd": (3200, 4000, 5200), "audiomnist": (5280, 6000, 6800)}


def get_config(arg: str = ""):
    choice = parse_arg(arg)
    config = base(choice)
    config.model = dict(
        name="melcnn",
        window_samples=200,
        hop_samples=80,
        num_bands=40,
        low_hz=50.0,
        high_hz=4000.0,
        normalise="clip",
        channels=(16, 24, 48, 96),
        dropout=0.3,
    )
    config.train.update(
        num_epochs=NUM_EPOCHS[choice.source],
        batch_size=20,
        length_samples=8800,
        bucket_samples=BUCKET_SAMPLES.get(choice.source, (4400,)),
        label_smoothing=0.1,
        average_decay=0.999,
    )
    config.optimizer.update(learning_rate=0.05, clip_norm=1.0)
    config.augment.update(tempo=0.5, speed=0.15, gain_db=10.0, noise_snr_db=(10.0, 40.0), filter_db=12.0)
    return shrink(config) if choice.runlocal else config
