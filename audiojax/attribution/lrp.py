"""Layer-wise relevance propagation (LRP) for a network that is described as a list of layers.

The relevance of a value is the share of a logit that is attributed to it. All attribution methods use this description
of networks, which `lrp_layers` provides. A layer has `forward(x)`, which returns its outputs, and
`back(x, relevance, rule)`, which distributes the relevance of the outputs over the inputs `x`. `back` returns the
relevance of the inputs, and f32[B], the part for each clip that the layer's bias and the epsilon of the rule absorb.
The first axis of all arrays is the batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Linear(NamedTuple):
    """A layer `apply(kernel, x) + bias`, where `apply` is bilinear; `x` and `kernel` may be pytrees of arrays.

    Examples are a dense layer, a convolution, a weighted mean, and one step of a recurrence with constant gates.
    """

    apply: Callable[[Any, Any], jax.Array]
    kernel: Any
    bias: jax.Array  # has the rank of the outputs and is broadcast to them

    def forward(self, x: Any) -> jax.Array:
        """Returns the outputs for the inputs `x`."""
        return self.apply(self.kernel, x) + self.bias

    def back(self, x: Any, relevance: jax.Array, rule: "Rule") -> tuple[Any, jax.Array]:
        """Distributes the relevance of the outputs over the inputs `x` by `rule`.

        Returns the relevance of the inputs, and f32[B], the part that the bias and the epsilon of the rule absorb.
        """
        return rule(self, x, relevance)


class Select(NamedTuple):
    """A layer whose outputs are copies of some inputs: max-pooling and reshaping."""

    function: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        """Returns the outputs for the inputs `x`."""
        return self.function(x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        """Returns the relevance of each output to the input that it is a copy of, and zeros f32[B]."""
        return jax.vjp(self.function, x)[1](relevance)[0], jnp.zeros(len(x))


class Through(NamedTuple):
    """An elementwise layer, which passes the relevance unchanged: ReLU, tanh, normalisation."""

    function: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        """Returns the outputs for the inputs `x`."""
        return self.function(x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        """Returns the relevance of the outputs unchanged, as that of the inputs, and zeros f32[B]."""
        return relevance, jnp.zeros(len(x))


class Recurrent(NamedTuple):
    """A recurrent layer h' = keep h + (1 - keep) squash(x W + b + r (h U + c)).

    It maps f32[B, N, inputs] to the states h after each of the N steps, f32[B, N, features]. The gates r and keep are
    treated as constants ("signal-take-all", Arras et al. 2017, arXiv:1706.07206); the relevance is propagated back
    through time.

    Attributes:
        run: Computes all states [N, B, features] from x [N, B, inputs].
        gates: Computes r and keep from x and the states before each step.
        kernels: W and U.
        biases: b and c, [1, features].
        squash: The activation of the candidate state.
    """

    run: Callable[[jax.Array], jax.Array]  # x [N, B, inputs] -> states [N, B, features], after a state of zeros
    gates: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # x and the previous states -> r, keep
    kernels: tuple[jax.Array, jax.Array]  # W and U
    biases: tuple[jax.Array, jax.Array]  # b and c, [1, features]
    squash: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        """Returns the state after each of the N steps, f32[B, N, features]."""
        return self.run(x.swapaxes(0, 1)).swapaxes(0, 1)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        """Propagates the relevance of all states back through time.

        Returns the relevance of `x` f32[B, N, inputs], and f32[B], the part that biases and the epsilon of the rule
        absorb.
        """
        x, relevance = x.swapaxes(0, 1), relevance.swapaxes(0, 1)
        states = self.run(x)
        before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
        steps = (x, before, *self.gates(x, before), relevance)
        _, (relevance, kept) = jax.lax.scan(
            lambda later, step: self._step_back(later, step, rule), jnp.zeros_like(states[0]), steps, reverse=True
        )
        return relevance.swapaxes(0, 1), kept.sum(axis=0)

    def _step_back(self, later: jax.Array, step: tuple[Any, ...], rule: "Rule") -> tuple[Any, tuple[Any, Any]]:
        """Propagates through one step; `later` [B, features] is the relevance of its state from the next step."""
        x, before, r, keep, relevance = step
        inner = Linear(lambda k, v: v[0] @ k[0] + r * (v[1] @ k[1]), self.kernels, self.biases[0] + r * self.biases[1])
        added = self.squash(inner.forward((x, before)))
        state = Linear(lambda k, v: k[0] * v[0] + k[1] * v[1], (keep, 1 - keep), jnp.zeros_like(keep))
        (of_before, of_added), kept = state.back((before, added), relevance + later, rule)
        (of_x, of_inner), kept_inside = inner.back((x, before), of_added, rule)
        return of_before + of_inner, (of_x, kept + kept_inside)


class Residual(NamedTuple):
    """A residual block, whose output is its input x plus the output of `layers` for x."""

    layers: Sequence["Layer"]

    def forward(self, x: jax.Array) -> jax.Array:
        """Returns the sum of `x` and the output of the layers."""
        return x + forward(self.layers, x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        """Distributes the relevance over both terms of the sum by `rule`, then through the layers to `x`.

        Returns the relevance of `x`, and f32[B], the part that biases and the epsilon of the rule absorb.
        """
        ones, zeros = jnp.ones((1,) * x.ndim), jnp.zeros((1,) * x.ndim)
        total = Linear(lambda one, parts: one * (parts[0] + parts[1]), ones, zeros)
        (skipped, inner), kept = total.back((x, forward(self.layers, x)), relevance, rule)
        path = propagate(self.layers, x, inner, rule)
        return skipped + path[-1].relevance, kept + sum(shared.kept for shared in path)


Layer = Linear | Select | Through | Recurrent | Residual
Rule = Callable[[Linear, Any, jax.Array], tuple[Any, jax.Array]]


def epsilon_rule(layer: Linear, x: Any, relevance: jax.Array, *, epsilon: float) -> tuple[Any, jax.Array]:
    """Distributes relevance in proportion to each input's contribution to the output (LRP-epsilon, Bach et al. 2015).

    Args:
        layer: The layer.
        x: The inputs of the layer.
        relevance: The relevance of its outputs.
        epsilon: Added to the magnitude of each output to avoid division by small numbers, relative to the root mean
            square of the layer's outputs for the clip.

    Returns:
        The relevance of the inputs, and f32[B], the part that bias and epsilon absorb.
    """
    z, back = jax.vjp(lambda x: layer.apply(layer.kernel, x), x)
    z = z + layer.bias
    size = jnp.sqrt(jnp.mean(jnp.square(z), axis=tuple(range(1, z.ndim)), keepdims=True))
    stabiliser = jnp.where(z >= 0, 1.0, -1.0) * epsilon * size
    share = _divided(relevance, z + stabiliser)
    kept = jnp.where(z + stabiliser == 0, relevance, share * (layer.bias + stabiliser))
    return jax.tree.map(jnp.multiply, x, back(share)[0]), _of_clip(kept)


def alpha_beta_rule(layer: Linear, x: Any, relevance: jax.Array, *, alpha: float) -> tuple[Any, jax.Array]:
    """Distributes `alpha` of the relevance over contributions with the output's sign, 1 - `alpha` over the others.

    This is the alpha-beta rule (Bach et al. 2015); alpha = 1 is z+ (Montavon et al. 2017), which keeps the sign of the
    relevance. The papers consider positive outputs, as before a ReLU; using the sign of the output extends the rule to
    recurrent states and to layers without a ReLU. Returns the relevance of the inputs `x`, and f32[B], the relevance
    that the bias absorbs.
    """
    up, high, gain = (jax.tree.map(lambda a: jnp.maximum(a, 0.0), tree) for tree in (layer.kernel, x, layer.bias))
    down, low, loss = (jax.tree.map(lambda a: jnp.minimum(a, 0.0), tree) for tree in (layer.kernel, x, layer.bias))
    is_positive, inputs, kept = layer.forward(x) >= 0, [], []
    for kernels, bias, pulls_along in (((up, down), gain, is_positive), ((down, up), loss, ~is_positive)):
        # Products of one sign: positive inputs with `kernels[0]`, negative inputs with `kernels[1]`.
        of_high, back_high = jax.vjp(functools.partial(layer.apply, kernels[0]), high)
        of_low, back_low = jax.vjp(functools.partial(layer.apply, kernels[1]), low)
        total = of_high + of_low + bias
        given = jnp.where(pulls_along, alpha, 1 - alpha) * relevance
        share = _divided(given, total)
        for part, back in ((high, back_high), (low, back_low)):
            inputs.append(jax.tree.map(jnp.multiply, part, back(share)[0]))
        kept.append(_of_clip(jnp.where(total == 0, given, share * bias)))
    return jax.tree.map(lambda *parts: sum(parts), *inputs), kept[0] + kept[1]


def _divided(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a / b, and 0 where b is 0."""
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, b))


def _of_clip(x: jax.Array) -> jax.Array:
    return x.sum(axis=tuple(range(1, x.ndim)))


RULES: dict[str, Rule] = {
    "epsilon": functools.partial(epsilon_rule, epsilon=0.01),
    "z+": functools.partial(alpha_beta_rule, alpha=1.0),
    "alpha2beta1": functools.partial(alpha_beta_rule, alpha=2.0),
}


class Shared(NamedTuple):
    """The result of propagating relevance back through one layer.

    `relevance` is that of the layer's inputs; `kept` f32[B] is the part that its bias and the epsilon of the rule
    absorb.
    """

    relevance: jax.Array  # of the inputs of the layer
    kept: jax.Array  # f32[B], absorbed by bias and epsilon


def forward(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    """Returns the output of the last layer for the inputs `x` of the first: a whole network's logits f32[B, labels]."""
    for layer in layers:
        x = layer.forward(x)
    return x


def propagate(layers: Sequence[Layer], x: jax.Array, relevance: jax.Array, rule: Rule) -> list[Shared]:
    """Propagates the relevance of the outputs for `x` back through all layers.

    Returns one result for each layer, from the last layer to the first; `relevance` of the last one is that of `x`.
    """
    inputs = [x]
    for layer in layers[:-1]:
        inputs.append(layer.forward(inputs[-1]))
    path: list[Shared] = []
    for layer, of_layer in zip(reversed(layers), reversed(inputs), strict=True):
        path.append(Shared(*layer.back(of_layer, path[-1].relevance if path else relevance, rule)))
    return path


def lrp(layers: Sequence[Layer], x: jax.Array, label: jax.Array, rule: Rule) -> jax.Array:
    """Returns the relevance of each value of `x` f32[B, ...] for the logit of `label` i32[B], of the shape of `x`.

    `layers` lead from `x` to the network's logits, and `rule` distributes the relevance in each linear layer.
    """
    logits = forward(layers, x)
    return propagate(layers, x, logits * jax.nn.one_hot(label, logits.shape[1]), rule)[-1].relevance
