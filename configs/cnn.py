"""AudioNet on the raw waveform."""

from audiojax.config import base, parse_arg, shrink

NUM_EPOCHS = {"synthetic": 5, "fsdd": 12, "audiomnist": 4}


def get_config(arg: str = ""):
    choice = parse_arg(arg, recipes=("seed",))
    config = base(choice)
    config.model = dict(
        name="audionet",
        unit_rms=choice.recipe != "seed",
        batch_norm=True,
        dropout=0.0,
        relu_on_logits=False,
        dtype="float32",
    )
    if choice.recipe == "seed":  # the student project's: 20 epochs at a small constant rate, nothing else
        config.train.update(batch_size=100, num_epochs=20)
        config.optimizer.update(schedule="constant", learning_rate=1e-4, warmup_steps=0)
    else:
        config.train.update(num_epochs=NUM_EPOCHS[choice.source], label_smoothing=0.1)
        config.augment = dict(speed=0.1, max_offset_samples=800, gain_db=0.0, noise_snr_db=(15.0, 40.0))
    return shrink(config) if choice.runlocal else config
