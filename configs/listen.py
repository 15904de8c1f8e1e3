r"""Streaming recognition: the recurrent network on continuous streams, which outputs each word as it ends.

  python -m audiojax.main --config configs/listen.py
                       synthetic: 2.9 % of the words wrong in clean strings, test voices, 13 minutes with other jobs
  python -m audiojax.main --config configs/listen.py:audiomnist --config.data.root=DIR
                       AudioMNIST, reconstructed, fold 0: 1.1 % of the words wrong in clean strings of the validation
                       speakers, 56 minutes while three other jobs ran
  python -m audiojax.main --config configs/listen.py:audiomnist,recipe=real --config.data.root=DIR \
      --config.streams.real=REAL_DIR --config.streams.strings=STRINGS --config.init_from=RUN
                       a wider network, with real recordings too, in a folder as audiojax/data/real.py describes it, and
                       with numbers read aloud, as audiojax/data/strings.py describes them, "double five" among them: a
                       stage of the packaged recogniser, 5,000 steps in 37 minutes

Seed 0, on 2 CPU cores; see also audiojax/streaming/pretrained/MODEL_CARD.md and experiments/README.md.
"""

from audiojax.config import ConfigDict, base, parse_arg, recurrent_model, shrink

NUM_EPOCHS = {"synthetic": 4, "audiomnist": 20, "espeak": 4}  # of any other source: 10
SYNTHETIC = {"audiomnist": ("synthetic", "espeak")}  # synthetic voices that are added to the recorded ones


REAL = dict(  # the streams with real recordings, which are in config.streams.real
    shares=(0.45, 0.3, 0.15, 0.1),
    real_words=0.42,
    real_speech=0.6,
    snr_db=(0.0, 40.0),
    fresh_share=0.25,
    onset_share=0.4,
    repeat_share=0.1,
    overlap_seconds=0.06,
    connected_share=0.3,
    coded_share=0.15,
    strings_share=0.35,  # where config.streams.strings names a folder
)


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; `arg` is the text after the colon, see `audiojax.config.GRAMMAR`."""
    choice = parse_arg(arg, ("real",))
    config = base(choice)
    config.task = "streams"
    config.model = recurrent_model()
    config.model.update(features=144, dense=144, dropout=0.1, readout="last", stack_frames=2, channels=(16, 32, 48))
    config.train.update(
        num_epochs=NUM_EPOCHS.get(choice.source, 10),
        batch_size=32,
        length_samples=32_000,  # of a segment: the parameters change after each, and the stream continues
        ema_decay=0.999,
    )
    config.optimizer.update(algorithm="adam", learning_rate=2e-3, warmup_steps=200, clip_norm=1.0)
    if choice.source == "audiomnist":  # of the synthetic voices
        config.synthetic.update(num_voices=60, num_takes=6)
    config.streams.update(steps_per_epoch=250, num_strings=128, false_alarm_hours=0.1)
    config.streams.synthetic_sources = SYNTHETIC.get(choice.source, ())
    config.streams.negative_sources = SYNTHETIC.get(choice.source, ("synthetic",))
    if choice.recipe == "real":
        config.streams.update(REAL, negative_sources=(*config.streams.negative_sources, "letters"))
        config.model.update(features=192, dense=192, channels=(24, 48, 64), counts=True, mask_bands=6)
        config.train.num_epochs = 20
        config.optimizer.update(learning_rate=1.2e-3, warmup_steps=50)
    if choice.runlocal:
        shrink(config)
        config.streams.update(
            steps_per_epoch=3, num_strings=4, false_alarm_hours=0.005, synthetic_sources=(), negative_sources=()
        )
        config.train.update(batch_size=4, num_epochs=2)
    return config
