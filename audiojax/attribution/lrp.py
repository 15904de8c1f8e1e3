"""What made a network say what it says: a share of its logit for every input, by gradients or layer by layer.

A network is here a list of layers, so that one short description of it (`anatomy.py`) serves every method. A layer has
`forward(x)` and `back(x, relevance, rule)`, which shares out the relevance of its outputs among its inputs and says
what its bias and the rule's epsilon keep of it. The first axis of every array is the batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Linear(NamedTuple):
    """`apply(kernel, x) + bias`, where `apply` is linear in both; `x` and `kernel` may be trees of arrays.

    A dense layer, a convolution, a weighted mean, one step of a recurrence with its gates held constant.
    """

    apply: Callable[[Any, Any], jax.Array]
    kernel: Any
    bias: jax.Array  # broadcasts against the outputs, and has their rank

    def forward(self, x: Any) -> jax.Array:
        return self.apply(self.kernel, x) + self.bias

    def back(self, x: Any, relevance: jax.Array, rule: "Rule") -> tuple[Any, jax.Array]:
        return rule(self, x, relevance)


class Select(NamedTuple):
    """Takes some of its inputs elsewhere, as they are: max-pooling, where the winner takes all, and reshaping."""

    function: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        return self.function(x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        return jax.vjp(self.function, x)[1](relevance)[0], jnp.zeros(len(x))


class Through(NamedTuple):
    """Every output belongs to one input, and so does its relevance: ReLU, tanh, normalisation."""

    function: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        return self.function(x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        return relevance, jnp.zeros(len(x))


class Recurrent(NamedTuple):
    """h' = keep h + (1 - keep) squash(x W + b + r (h U + c)), from f32[B, N, inputs] to all states f32[B, N, features].

    Signal takes all (Arras et al. 2017, arXiv 1706.07206): the gates r and keep are constants here, the relevance goes
    to what they let through, back through time.
    """

    run: Callable[[jax.Array], jax.Array]  # x [N, B, inputs] -> states [N, B, features], after a state of zeros
    gates: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # x and the states before -> r, keep
    kernels: tuple[jax.Array, jax.Array]  # W and U
    biases: tuple[jax.Array, jax.Array]  # b and c, [1, features]
    squash: Callable[[jax.Array], jax.Array]

    def forward(self, x: jax.Array) -> jax.Array:
        return self.run(x.swapaxes(0, 1)).swapaxes(0, 1)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        x, relevance = x.swapaxes(0, 1), relevance.swapaxes(0, 1)
        states = self.run(x)
        before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
        steps = (x, before, *self.gates(x, before), relevance)
        _, (relevance, kept) = jax.lax.scan(
            lambda later, step: self._step_back(later, step, rule), jnp.zeros_like(states[0]), steps, reverse=True
        )
        return relevance.swapaxes(0, 1), kept.sum(axis=0)

    def _step_back(self, later: jax.Array, step: tuple[Any, ...], rule: "Rule") -> tuple[Any, tuple[Any, Any]]:
        """One step, of which `later` [B, features] is what the step after it gives to the state between them."""
        x, before, r, keep, relevance = step
        heard = Linear(lambda k, v: v[0] @ k[0] + r * (v[1] @ k[1]), self.kernels, self.biases[0] + r * self.biases[1])
        added = self.squash(heard.forward((x, before)))
        state = Linear(lambda k, v: k[0] * v[0] + k[1] * v[1], (keep, 1 - keep), jnp.zeros_like(keep))
        (of_before, of_added), kept = state.back((before, added), relevance + later, rule)
        (of_x, of_heard), kept_inside = heard.back((x, before), of_added, rule)
        return of_before + of_heard, (of_x, kept + kept_inside)


class Residual(NamedTuple):
    """x + what `layers` make of x: the rule shares relevance between the two by what they add to the sum."""

    layers: Sequence["Layer"]

    def forward(self, x: jax.Array) -> jax.Array:
        return x + forward(self.layers, x)

    def back(self, x: jax.Array, relevance: jax.Array, rule: "Rule") -> tuple[jax.Array, jax.Array]:
        ones, zeros = jnp.ones((1,) * x.ndim), jnp.zeros((1,) * x.ndim)
        total = Linear(lambda one, parts: one * (parts[0] + parts[1]), ones, zeros)
        (passed, made), kept = total.back((x, forward(self.layers, x)), relevance, rule)
        way = share_out(self.layers, x, made, rule)
        return passed + way[-1].relevance, kept + sum(shared.kept for shared in way)


Layer = Linear | Select | Through | Recurrent | Residual
Rule = Callable[[Linear, Any, jax.Array], tuple[Any, jax.Array]]


def epsilon_rule(layer: Linear, x: Any, relevance: jax.Array, *, epsilon: float) -> tuple[Any, jax.Array]:
    """Each input gets the share that its product has in the output (Bach et al. 2015, LRP-epsilon).

    Args:
        epsilon: what is added to every output's size, so that none is divided by almost nothing, as a share of the
            root of the clip's mean square in this layer.

    Returns:
        The inputs' relevance, and f32[B], what bias and epsilon keep of it.
    """
    z, back = jax.vjp(lambda x: layer.apply(layer.kernel, x), x)
    z = z + layer.bias
    size = jnp.sqrt(jnp.mean(jnp.square(z), axis=tuple(range(1, z.ndim)), keepdims=True))
    stabiliser = jnp.where(z >= 0, 1.0, -1.0) * epsilon * size
    share = _divided(relevance, z + stabiliser)
    kept = jnp.where(z + stabiliser == 0, relevance, share * (layer.bias + stabiliser))
    return jax.tree.map(jnp.multiply, x, back(share)[0]), _of_clip(kept)


def alpha_beta_rule(layer: Linear, x: Any, relevance: jax.Array, *, alpha: float) -> tuple[Any, jax.Array]:
    """What pulls an output towards its own sign gets `alpha` of its relevance, what pulls against it 1 - `alpha`.

    Bach et al. 2015; alpha = 1 is z+ (Montavon et al. 2017): relevance never changes its sign. They look at positive
    outputs, which are all there are before a ReLU that lets relevance through; "its own sign" is the same there, and
    also holds for states and layers without a ReLU. Returns what `epsilon_rule` returns.
    """
    up, high, gain = (jax.tree.map(lambda a: jnp.maximum(a, 0.0), tree) for tree in (layer.kernel, x, layer.bias))
    down, low, loss = (jax.tree.map(lambda a: jnp.minimum(a, 0.0), tree) for tree in (layer.kernel, x, layer.bias))
    is_positive, inputs, kept = layer.forward(x) >= 0, [], []
    for kernels, bias, pulls_along in (((up, down), gain, is_positive), ((down, up), loss, ~is_positive)):
        # The products of one sign: those of the inputs above 0 with `kernels[0]`, of those below with `kernels[1]`.
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
    """a / b, and 0 where b is."""
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, b))


def _of_clip(x: jax.Array) -> jax.Array:
    return x.sum(axis=tuple(range(1, x.ndim)))


RULES: dict[str, Rule] = {
    "epsilon": functools.partial(epsilon_rule, epsilon=0.01),
    "z+": functools.partial(alpha_beta_rule, alpha=1.0),
    "alpha2beta1": functools.partial(alpha_beta_rule, alpha=2.0),
}


class Shared(NamedTuple):
    """Relevance on its way back, the last layer's first."""

    relevance: jax.Array  # of a layer's inputs
    kept: jax.Array  # f32[B], by the layer's bias and the rule


def forward(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    """What comes out of the last layer, the logits f32[B, labels] of a whole network."""
    for layer in layers:
        x = layer.forward(x)
    return x


def share_out(layers: Sequence[Layer], x: jax.Array, relevance: jax.Array, rule: Rule) -> list[Shared]:
    """The `relevance` of the outputs, shared out layer by layer: the last of the list is that of `x`."""
    inputs = [x]
    for layer in layers[:-1]:
        inputs.append(layer.forward(inputs[-1]))
    way: list[Shared] = []
    for layer, heard in zip(reversed(layers), reversed(inputs), strict=True):
        way.append(Shared(*layer.back(heard, way[-1].relevance if way else relevance, rule)))
    return way


def lrp(layers: Sequence[Layer], x: jax.Array, label: jax.Array, rule: Rule) -> jax.Array:
    """Layer-wise relevance propagation of the logit of `label` i32[B]: as `x`."""
    logits = forward(layers, x)
    return share_out(layers, x, logits * jax.nn.one_hot(label, logits.shape[1]), rule)[-1].relevance
