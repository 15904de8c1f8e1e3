"""Whether an explanation tells what a network listens to: accuracy as the most relevant inputs are silenced.

Becker et al. 2018, section 4: samples of the waveform are set to zero, the most relevant first; the sooner accuracy
falls, the better the explanation. For a network on a spectrogram it is bins that are set to its floor, which is
silence. Relevance is that of the network's own answer. Only what is sound is silenced, not the padding.
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
ORDERS = ("random", "loudest first")  # what explanations have to beat


def curves(
    run: Trained, clips: Clips, indices: np.ndarray, methods: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """{order: accuracy at each of `SHARES`} on the clips at `indices`, for each of `methods` and `ORDERS`."""
    shape = configs.batch_shape(run.config) | {"bucket_samples": ()}  # one program an order
    parts = list(batches.evaluation(clips, indices, **shape))
    right = {order: np.zeros(len(SHARES)) for order in (*methods, *ORDERS)}
    for number, batch in enumerate(parts):
        for order, counted in right.items():
            key = jax.random.fold_in(jax.random.key(0), number)
            answers = _answers(run.model, run.variables, batch["audio"], batch["length"], key, order)
            counted += ((np.asarray(answers) == batch["label"]) * batch["mask"]).sum(axis=1)
        progress(number + 1, len(parts))
    return {order: (counted / len(indices)).tolist() for order, counted in right.items()}


@functools.partial(jax.jit, static_argnames=("model", "order"))
def _answers(
    model: nn.Module, variables: dict[str, Any], audio: jax.Array, length: jax.Array, key: jax.Array, order: str
) -> jax.Array:
    """i32[shares, B]: what the network answers as ever more of each clip is silent, the first by `order` first."""
    seam = lrp_layers.seam(model)
    x, layers = seam.features(audio, length), seam.layers(variables, length)
    if order == "random":
        score = jax.random.uniform(key, x.shape)
    elif order == "loudest first":
        score = jnp.abs(x)
    else:
        score = methods_module.METHODS[order](layers, x, lrp.forward(layers, x).argmax(axis=1).astype(jnp.int32))
    heard = seam.heard(x, length)
    if seam.bins:
        heard &= seam.bins.of_clip(x.shape[1], length)

    def answer(share: jax.Array) -> jax.Array:
        silenced = jnp.where(first(score, heard, share), 0.0, x)
        return lrp.forward(layers, silenced).argmax(axis=1)

    return jax.lax.map(answer, jnp.asarray(SHARES))


def first(score: jax.Array, heard: jax.Array, share: jax.Array) -> jax.Array:
    """bool[B, ...]: the `share` of what is `heard` in each clip that has the highest `score`, all [B, ...]."""
    flat = jnp.where(heard, score, -jnp.inf).reshape(len(score), -1)
    rank = jnp.argsort(jnp.argsort(flat, axis=1, descending=True), axis=1)
    number = jnp.round(share * heard.reshape(len(score), -1).sum(axis=1).astype(jnp.float32))
    return (rank.astype(jnp.float32) < number[:, None]).reshape(score.shape)
