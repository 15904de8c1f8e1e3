"""Faithfulness test of attributions: accuracy as the most relevant inputs are set to silence.

In Becker et al. 2018, section 4, samples of the waveform are set to zero, the most relevant first; the sooner the
accuracy falls, the better the attribution. In a network on spectrograms, bins are set to the floor. The relevance is
that of the predicted label. Padding is not counted.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax import config as configs
from audiojax.attribution import lrp, lrp_layers
from audiojax.attribution import methods as methods_module
from audiojax.data import batches
from audiojax.data.clips import Clips
from audiojax.inference import Trained
from audiojax.io.progress import Progress

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
ORDERS = ("random", "loudest first")  # baselines


def curves(
    run: Trained, clips: Clips, indices: np.ndarray, methods: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """Returns the accuracies in [0, 1] on the clips at `indices`, with each share in `SHARES` of a clip silenced.

    The result is {order: accuracies, one per share}. An order is a name in `methods`, attribution methods whose most
    relevant inputs are silenced first, or one of the baselines `ORDERS`. `progress` is called as (done, total) after
    each batch.
    """
    shape = configs.batch_shape(run.config) | {"bucket_samples": ()}  # one program per order
    parts = list(batches.evaluation(clips, indices, **shape))
    right = {order: np.zeros(len(SHARES)) for order in (*methods, *ORDERS)}
    for number, batch in enumerate(parts):
        for order, counted in right.items():
            key = jax.random.fold_in(jax.random.key(0), number)
            predictions = _predictions(run.model, run.variables, batch["audio"], batch["length"], key, order)
            counted += ((np.asarray(predictions) == batch["label"]) * batch["mask"]).sum(axis=1)
        progress(number + 1, len(parts))
    return {order: (counted / len(indices)).tolist() for order, counted in right.items()}


@functools.partial(jax.jit, static_argnames=("model", "order"))
def _predictions(
    model: nn.Module, variables: dict[str, Any], audio: jax.Array, length: jax.Array, key: jax.Array, order: str
) -> jax.Array:
    """Returns the predicted labels i32[shares, B] with each share in `SHARES` silenced in this `order`."""
    seam = lrp_layers.seam(model)
    x, layers = seam.features(audio, length), seam.layers(variables, length)
    if order == "random":
        score = jax.random.uniform(key, x.shape)
    elif order == "loudest first":
        score = jnp.abs(x)
    else:
        score = methods_module.METHODS[order](layers, x, lrp.forward(layers, x).argmax(axis=1).astype(jnp.int32))
    valid = seam.valid(x, length)
    if seam.bins:
        valid &= seam.bins.of_clip(x.shape[1], length)

    def predict(share: jax.Array) -> jax.Array:
        silenced = jnp.where(first(score, valid, share), 0.0, x)
        return lrp.forward(layers, silenced).argmax(axis=1)

    return jax.lax.map(predict, jnp.asarray(SHARES))


def first(score: jax.Array, valid: jax.Array, share: jax.Array) -> jax.Array:
    """Returns bool[B, ...], true for the `share`, in [0, 1], of each clip's valid inputs with the highest `score`.

    `score` f32[B, ...] and `valid` bool[B, ...] have the shape of the inputs; inputs that are not valid are padding.
    """
    flat = jnp.where(valid, score, -jnp.inf).reshape(len(score), -1)
    rank = jnp.argsort(jnp.argsort(flat, axis=1, descending=True), axis=1)
    number = jnp.round(share * valid.reshape(len(score), -1).sum(axis=1).astype(jnp.float32))
    return (rank.astype(jnp.float32) < number[:, None]).reshape(score.shape)
