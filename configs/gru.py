"""A GRU on log-mel frames after causal convolutions, for sound of any length.

  python -m audiojax.main --config configs/gru.py:audiomnist --config.data.root=DIR
                       AudioMNIST, reconstructed: 99.33 % on fold 0, 99.36 ± 0.36 % over the five folds, 6 minutes each
  python -m audiojax.main --config configs/gru.py:audiomnist,recipe=plain --config.data.root=DIR
                       without convolutions: 98.53 % on fold 0, 98.95 ± 0.53 % over the five folds, 3 minutes each
  python -m audiojax.main --config configs/gru.py:fsdd,split=official,recipe=plain --config.data.root=DIR
                       FSDD, takes 0 to 4: 99.00 ± 0.53 %, seeds 0 to 4, 2 minutes each

Test accuracy of the checkpoint with the best validation accuracy, on 2 CPU cores while other jobs ran; the recipe was
chosen on the validation speakers of AudioMNIST's fold 0 (experiments/README.md). `recipe=seed` is the class project's:
every sample is a step of the recurrence, and the logits depend on the state after the last one, padding included.
"""

from audiojax.config import ANY_LENGTH_AUGMENT, ConfigDict, base, parse_arg, recurrent_model, shrink, train_any_length

NUM_EPOCHS = {"synthetic": 20, "audiomnist": 6, "espeak": 20}  # of any other source: 40


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; `arg` is the text after the colon, see `audiojax.config.GRAMMAR`."""
    choice = parse_arg(arg, recipes=("seed", "plain"))
    config = base(choice)
    config.model = recurrent_model()
    train_any_length(config, choice.source, NUM_EPOCHS.get(choice.source, 40))
    if choice.recipe == "seed":  # the class project's: every sample is a step
        config.model.update(frontend="raw", hop_samples=1, normalise="none", mask_padding=False)
        config.model.update(features=128, num_layers=1, dropout=0.0, readout="last")
        config.train.update(batch_size=10, num_epochs=20, label_smoothing=0.0, ema_decay=0.0)
        config.optimizer.update(schedule="constant", learning_rate=1e-4, warmup_steps=0, clip_norm=0.0)
    else:
        config.augment.update(ANY_LENGTH_AUGMENT)
    if choice.recipe == "default":
        config.model.update(stack_frames=2, channels=(16, 32, 48))
        config.augment.update(max_margin_samples=1600)
    return shrink(config) if choice.runlocal else config
