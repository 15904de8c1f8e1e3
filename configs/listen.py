"""A listener: the recurrent network on endless streams, which says each word as it ends.

  python -m audiojax.main --config configs/listen.py
                       synthetic: 2.9 % of the words wrong in clean strings, test voices, 13 minutes beside other jobs
  python -m audiojax.main --config configs/listen.py:audiomnist --config.data.root=DIR
                       AudioMNIST, reconstructed, fold 0: 1.1 % of the words wrong in clean strings of the validation
                       speakers, 56 minutes beside three other jobs; the packaged listener learnt on from there

Seed 0, on 2 CPU cores; audiojax/listener/MODEL_CARD.md and experiments/README.md have the rest.
"""

from audiojax.config import base, parse_arg, recurrent_model, shrink

NUM_EPOCHS = {"synthetic": 4, "fsdd": 10, "audiomnist": 20, "folder": 10, "espeak": 4}
MADE = {"audiomnist": ("synthetic", "espeak")}  # voices that are heard beside the recorded ones


def get_config(arg: str = ""):
    choice = parse_arg(arg)
    config = base(choice)
    config.model = recurrent_model()
    config.model.update(
        features=144, dense=144, dropout=0.1, readout="last", stack_frames=2, channels=(16, 32, 48), listens=True
    )
    config.train.update(
        num_epochs=NUM_EPOCHS[choice.source],
        batch_size=32,
        length_samples=32_000,  # of a segment, after which the parameters learn and the stream goes on
        average_decay=0.999,
    )
    config.optimizer.update(algorithm="adam", learning_rate=2e-3, warmup_steps=200, clip_norm=1.0)
    if choice.source == "audiomnist":  # of the made voices
        config.synthetic.update(num_voices=60, num_takes=6)
    config.streams.update(steps_per_epoch=250, num_strings=128, alarm_hours=0.1)
    config.streams.voices = MADE.get(choice.source, ())
    config.streams.phrases = MADE.get(choice.source, ("synthetic",))
    if choice.runlocal:
        shrink(config)
        config.streams.update(steps_per_epoch=3, num_strings=4, alarm_hours=0.005, voices=(), phrases=())
        config.train.update(batch_size=4, num_epochs=2)
    return config
