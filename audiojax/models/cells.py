"""Recurrent cells. `advance` is one step; `run` is all of them, with what the state does not need taken out."""

import jax
import jax.numpy as jnp
from flax import linen as nn

UNROLL = 4  # steps of the scan in one turn of its loop


def memory_bias(memory_frames: int) -> nn.initializers.Initializer:
    """Biases of a gate that keeps, so that it forgets over 1 to `memory_frames` frames; zeros where that is 0.

    Tallec & Ollivier 2018 (arXiv 1804.11188), equation 16.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        frames = jax.random.uniform(key, shape, dtype, 1.0, max(memory_frames - 1.0, 1.001))
        return jnp.log(frames) if memory_frames else jnp.zeros(shape, dtype)

    return init


class GRUCell(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), with the reset after the product, as in cuDNN.

    r = sigmoid(x W_r + b_r + h U_r), z = sigmoid(x W_z + b_z + h U_z), n = tanh(x W_n + b_n + r (h U_n + c)) and
    h' = n + z (h - n): z keeps. Each U is orthogonal at first.
    """

    features: int
    memory_frames: int = 0

    def setup(self) -> None:
        def input_bias(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
            keep = memory_bias(self.memory_frames)(key, (self.features,), dtype)
            return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(keep)

        def orthogonal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            square = nn.initializers.orthogonal()
            return jnp.hstack([square(part, (shape[0], shape[0])) for part in jax.random.split(key, 3)])

        self.project = nn.Dense(3 * self.features, bias_init=input_bias)
        self.kernel = self.param("kernel", orthogonal, (self.features, 3 * self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def advance(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """The state f32[B, features] after `hidden`, at the input `x` f32[B, inputs]."""
        return self._step(hidden, self.project(x))

    def run(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """The states f32[N, B, features] after `hidden`, at the inputs `x` f32[N, B, inputs]."""

        def body(hidden: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
            hidden = self._step(hidden, projected)
            return hidden, hidden

        return jax.lax.scan(body, hidden, self.project(x), unroll=UNROLL)[1]

    def _step(self, hidden: jax.Array, projected: jax.Array) -> jax.Array:
        in_r, in_z, in_n = jnp.split(projected, 3, axis=-1)
        of_r, of_z, of_n = jnp.split(hidden @ self.kernel, 3, axis=-1)
        r, z = nn.sigmoid(in_r + of_r), nn.sigmoid(in_z + of_z)
        n = jnp.tanh(in_n + r * (of_n + self.bias[None]))
        return n + z * (hidden - n)


class MinGRUCell(nn.Module):
    """minGRU (Feng et al. 2024, arXiv 2410.01201): z = sigmoid(x W_z + b_z) and h' = z h + (1 - z) (x W_n + b_n).

    Neither looks at the state, so that a whole sequence is an associative scan.
    """

    features: int
    memory_frames: int = 0

    def setup(self) -> None:
        self.keep = nn.Dense(self.features, bias_init=memory_bias(self.memory_frames))
        self.candidate = nn.Dense(self.features)

    def advance(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """The state f32[B, features] after `hidden`, at the input `x` f32[B, inputs]."""
        keep = nn.sigmoid(self.keep(x))
        return keep * hidden + (1 - keep) * self.candidate(x)

    def run(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """The states f32[N, B, features] after `hidden`, at the inputs `x` f32[N, B, inputs]."""
        keep = nn.sigmoid(self.keep(x))
        return linear_scan(hidden, keep, (1 - keep) * self.candidate(x))


def linear_scan(hidden: jax.Array, keep: jax.Array, add: jax.Array) -> jax.Array:
    """All h_n = keep_n * h_(n-1) + add_n after h = `hidden` [...], of `keep` and `add` [N, ...], in log N steps."""

    def after(first: tuple, second: tuple) -> tuple:
        return first[0] * second[0], first[1] * second[0] + second[1]

    kept, added = jax.lax.associative_scan(after, (keep, add))
    return kept * hidden[None] + added
