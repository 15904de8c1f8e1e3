"""Recurrent cells: `advance` computes one step, `run` a sequence, with the inputs' products taken out of the scan."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Triple = tuple[jax.Array, jax.Array, jax.Array]  # of r, z and n


def memory_bias(memory_frames: int) -> nn.initializers.Initializer:
    """Returns an initializer of an update gate's biases for time constants of up to `memory_frames` steps.

    With 0 it initialises them to zeros. Otherwise it is the chrono initialisation of Tallec & Ollivier 2018
    (arXiv 1804.11188), equation 16.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        frames = jax.random.uniform(key, shape, dtype, 1.0, max(memory_frames - 1.0, 1.001))
        return jnp.log(frames) if memory_frames else jnp.zeros(shape, dtype)

    return init


class GRUCell(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), with the reset after the product, as in cuDNN.

    r = sigmoid(x W_r + b_r + h U_r), z = sigmoid(x W_z + b_z + h U_z), n = tanh(x W_n + b_n + r (h U_n + c)) and
    h' = n + z (h - n), where x is the input, h the state and h' the next state; z = 1 keeps the state. Each U is
    initialised to an orthogonal matrix. Products are computed in `dtype`, states and gates in float32.

    Attributes:
        features: the size of the state.
        memory_frames: the longest time constant, in steps, for which b_z is initialised; 0 for biases of zero.
        tuned: whether to compute with code tuned for the CPU, which has a custom gradient.
    """

    features: int
    memory_frames: int = 0
    dtype: Any = jnp.float32
    tuned: bool = True

    def setup(self) -> None:
        """Creates the parameters."""

        def input_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            keep = memory_bias(self.memory_frames)(key, (self.features,), dtype)
            return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(keep)

        def orthogonal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            square = nn.initializers.orthogonal()
            return jnp.hstack([square(part, (shape[0], shape[0])) for part in jax.random.split(key, 3)])

        self.project = nn.Dense(3 * self.features, bias_init=input_bias, dtype=self.dtype)
        self.kernel = self.param("kernel", orthogonal, (self.features, 3 * self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (1, self.features))

    def advance(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the state f32[B, features] that follows the state `hidden`, for the input `x` f32[B, inputs]."""
        inputs, kernel, bias = self._inputs(x)
        return _gated(hidden, inputs, _product(hidden, kernel), bias)

    def run(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the states f32[N, B, features] after each of the N inputs `x` [N, B, inputs].

        `hidden` f32[B, features] is the state before the first input.
        """
        if len(x) == 1:  # `gru_scan` would split the kernel for this one step
            return self.advance(hidden, x[0])[None]
        inputs, kernel, bias = self._inputs(x)
        if self.tuned:
            return gru_scan(hidden, _triple(inputs), _triple(kernel), bias)

        def body(hidden: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            hidden = _gated(hidden, inputs, _product(hidden, kernel), bias)
            return hidden, hidden

        return jax.lax.scan(body, hidden, inputs)[1]

    def _inputs(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.project(x).astype(jnp.float32), self.kernel.astype(self.dtype), self.bias


class MinGRUCell(nn.Module):
    """minGRU (Feng et al. 2024, arXiv 2410.01201): z = sigmoid(x W_z + b_z) and h' = z h + (1 - z) (x W_n + b_n).

    x is the input, h the state and h' the next state. The gate z and the candidate x W_n + b_n do not depend on the
    state, so a whole sequence is one associative scan.

    Attributes:
        features: the size of the state.
        memory_frames: the longest time constant, in steps, for which b_z is initialised; 0 for biases of zero.
    """

    features: int
    memory_frames: int = 0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the parameters."""
        self.keep = nn.Dense(self.features, bias_init=memory_bias(self.memory_frames), dtype=self.dtype)
        self.candidate = nn.Dense(self.features, dtype=self.dtype)

    def _inputs(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return nn.sigmoid(self.keep(x).astype(jnp.float32)), self.candidate(x).astype(jnp.float32)

    def advance(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the state f32[B, features] that follows the state `hidden`, for the input `x` f32[B, inputs]."""
        keep, candidate = self._inputs(x)
        return keep * hidden + (1 - keep) * candidate

    def run(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the states f32[N, B, features] after each of the N inputs `x` [N, B, inputs].

        `hidden` f32[B, features] is the state before the first input.
        """
        keep, candidate = self._inputs(x)
        return linear_scan(hidden, keep, (1 - keep) * candidate)


def linear_scan(hidden: jax.Array, keep: jax.Array, add: jax.Array) -> jax.Array:
    """Computes the recurrence h_n = keep_n * h_(n-1) + add_n in log N parallel steps.

    `keep` and `add` are [N, ...], and h_0 is `hidden` [...]. Returns h_1 to h_N, [N, ...].
    """

    def compose(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
        return first[0] * second[0], first[1] * second[0] + second[1]

    factor, offset = jax.lax.associative_scan(compose, (keep, add))
    return factor * hidden[None] + offset


class _Gates(NamedTuple):
    r: jax.Array
    z: jax.Array
    n: jax.Array
    of_n: jax.Array  # h U_n + c


def _triple(x: jax.Array) -> Triple:
    r, z, n = jnp.split(x, 3, axis=-1)
    return r, z, n


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the product of `x` and `kernel` in the type of `kernel`, as f32[..., n]."""
    return jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)


def _gated(hidden: jax.Array, inputs: jax.Array, of_hidden: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns the state after `hidden` [B, features].

    `inputs` are x W + b and `of_hidden` are h U, [B, 3 * features], for r, z and n.
    """
    (r, z, n), (of_r, of_z, of_n) = _triple(inputs), _triple(of_hidden)
    r, z = nn.sigmoid(r + of_r), nn.sigmoid(z + of_z)
    n = jnp.tanh(n + r * (of_n + bias))
    return n + z * (hidden - n)


def _gru_gates(hidden: jax.Array, inputs: Triple, kernel: Triple, bias: jax.Array) -> tuple[jax.Array, _Gates]:
    """Returns the state after `hidden` [B, features], and the gates.

    It computes three small products: where the gates are slices of one large product, XLA does not vectorise them, and
    takes more than twice the time on the CPU.
    """
    r, z = (_sigmoid(x + _product(hidden, u)) for x, u in zip(inputs[:2], kernel[:2], strict=True))
    of_n = _product(hidden, kernel[2]) + bias
    n = jnp.tanh(inputs[2] + r * of_n)
    return n + z * (hidden - n), _Gates(r, z, n, of_n)


def _sigmoid(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)  # on the CPU faster than 1 / (1 + exp(-x))


@jax.custom_vjp
def gru_scan(hidden: jax.Array, inputs: Triple, kernel: Triple, bias: jax.Array) -> jax.Array:
    """Returns the states [N, B, features] of a GRU after each of N inputs, with the formulas of `GRUCell`.

    The gradient is written by hand: everything that does not depend on later steps is computed for all steps at once,
    and the kernels' gradient is one product, where the derivative of a scan would sum N small ones.

    Args:
        hidden: The initial state, [B, features].
        inputs: x W + b for r, z and n, [N, B, features] each.
        kernel: The matrices U for r, z and n, [features, features] each.
        bias: c, the bias of h U_n, [1, features].
    """
    return _gru_fwd(hidden, inputs, kernel, bias)[0]


def _gru_fwd(hidden: jax.Array, inputs: Triple, kernel: Triple, bias: jax.Array) -> tuple[jax.Array, tuple[Any, ...]]:
    def body(hidden: jax.Array, inputs: Triple) -> tuple[jax.Array, tuple[jax.Array, _Gates]]:
        hidden, gates = _gru_gates(hidden, inputs, kernel, bias)
        return hidden, (hidden, gates)

    states, gates = jax.lax.scan(body, hidden, inputs)[1]
    return states, (hidden, states, gates, kernel)


def _gru_bwd(residuals: tuple[Any, ...], gradient: jax.Array) -> tuple[Any, ...]:
    hidden, states, (r, z, n, of_n), kernel = residuals
    before = jnp.concatenate([hidden[None], states[:-1]])
    # The derivatives of h' = n + z (h - n) with respect to the arguments of tanh and of both sigmoids.
    in_n = (1 - z) * (1 - n * n)
    of_r, of_z, of_n = in_n * of_n * r * (1 - r), (before - n) * z * (1 - z), in_n * r

    def body(later: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        gradient, keep, *factors = step
        here = gradient + later
        return here * keep + sum(_product(here * x, u.T) for x, u in zip(factors, kernel, strict=True)), here

    steps = (gradient, z, of_r, of_z, of_n)
    to_hidden, here = jax.lax.scan(body, jnp.zeros_like(hidden), steps, reverse=True)
    products = (here * of_r, here * of_z, here * of_n)
    dtype = kernel[0].dtype
    to_kernel = tuple(jnp.einsum("nbh,nbk->hk", before.astype(dtype), x.astype(dtype)) for x in products)
    return to_hidden, (*products[:2], here * in_n), to_kernel, products[2].sum(axis=(0, 1))[None]


gru_scan.defvjp(_gru_fwd, _gru_bwd)
