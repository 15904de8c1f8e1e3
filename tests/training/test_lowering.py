"""Every model's training step becomes a program for accelerators that are not here: nothing is for the CPU only."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from audiojax.data.clips import Batch, Clips
from audiojax.data.loading import Data
from audiojax.data.splits import Split
from audiojax.schema import DIGITS
from audiojax.streaming.stream_task import StreamTask
from audiojax.training.build import assemble
from configs import cnn, gru, listen, spectrogram

TEN_LABELS = dataclasses.replace(Clips.unlabelled([], 8000), label_names=DIGITS)
NO_SPLIT = Split(*[np.empty(0, int)] * 3)
ROWS = [
    (cnn, "", {}),
    (cnn, "recipe=becker", {}),
    (cnn, "", {"dtype": "bfloat16"}),
    (gru, "", {}),
    (gru, "", {"cell": "min_gru", "frontend": "learned"}),
    (gru, "recipe=seed", {}),
    (listen, "", {}),
    (listen, "", {"counts": True, "mask_bands": 6}),
    (spectrogram, "", {}),
    (spectrogram, "recipe=alexnet", {}),
    (cnn, "recipe=residual", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize("module, arg, keys", ROWS)
def test_the_training_step_lowers_for_cuda_and_tpu(module, arg, keys):
    config = module.get_config(arg)
    config.model.update(keys)
    made = []

    def state():
        task = StreamTask(config, Data(TEN_LABELS, NO_SPLIT, None)) if module is listen else None
        made.append(assemble(config, num_labels=10, rate_hz=8000, num_steps=100, task=task))
        return made[0].state

    rows, samples = config.train.batch_size, config.train.length_samples
    kinds = {"audio": ((rows, samples), np.int16), "length": ((rows,), np.int32), "label": ((rows,), np.int32)}
    kinds["mask"] = ((rows,), np.float32)
    if module is listen:
        of_steps = (rows, samples // (config.model.hop_samples * config.model.stack_frames))
        kinds["reset"] = ((rows,), np.float32)
        kinds |= {name: (of_steps, np.int32) for name in ("label", "copies")}
        kinds |= {"mask": (of_steps, np.float32), "times": ((*of_steps, 2), np.float32)}
    batch = Batch(**{name: jax.ShapeDtypeStruct(*kind) for name, kind in kinds.items()})
    with jax.numpy_dtype_promotion("standard"):  # flax mixes bfloat16 and float32
        shapes, key = jax.eval_shape(state), jax.eval_shape(lambda: jax.random.key(0))  # no parameter is drawn
        to_both = functools.partial(jax.export.export, platforms=("cuda", "tpu"))
        batch = jax.eval_shape(made[0].augment_step, batch, key, 0)
        assert to_both(made[0].augment_step)(batch, key, 0).platforms == ("cuda", "tpu")
        assert to_both(made[0].train_step)(shapes, batch, key).platforms == ("cuda", "tpu")
