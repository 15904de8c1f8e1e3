"""A recurrent network on sound of any length, clips or streams: front end, recurrent layers, readout.

`step` defines the network: it takes one hop of sound, and returns the outputs after it. `__call__` scans it over a
clip, with everything that does not depend on the state, the frames and the inputs' half of the gates, computed before
the scan.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.audio.lead import LEAD_STEPS, lead
from audiojax.errors import InputError
from audiojax.models.layers import frontend, kernels
from audiojax.models.layers.averages import READOUTS, readout_weights, running_levels
from audiojax.models.layers.causal_conv import WIDTH, CausalConv
from audiojax.models.layers.cells import GRUCell, MinGRUCell

CELLS = {"gru": GRUCell, "min_gru": MinGRUCell}
NORMALISATIONS = ("none", "fixed", "running")
MAX_COUNT = 3  # how many times a word counts at most: "triple five"


class Carry(NamedTuple):
    """The state of the network between two steps, for each of B streams: all that it keeps of earlier sound."""

    context: jax.Array  # f32[B, context_samples], the sound before the next hop
    level: jax.Array  # f32[B, bands], the running mean of the frames
    frames: tuple[jax.Array, ...]  # f32[B, 2, bands, channels], the last two inputs of each convolution
    hidden: tuple[jax.Array, ...]  # f32[B, features] each layer
    total: jax.Array  # f32[B, averages, features], the weighted sums of the last layer's outputs
    weight: jax.Array  # f32[B, averages, 1], the sums of the weights


@functools.partial(jax.jit, static_argnums=(0, 2))
def start_of_stream(model: nn.Module, variables: dict[str, Any], num_streams: int) -> Any:
    """Returns the state of `num_streams` streams of `model` before their first sound, see `GRU.start_of_stream`."""
    return model.apply(variables, num_streams, method="start_of_stream")


class StreamOutputs(NamedTuple):
    """The outputs of a network for streams at each step, in the order in which they are concatenated.

    Attributes:
        logits: f32[..., labels + 1], of each word to have just ended, and of "no word has just ended".
        times: f32[..., 2], seconds since the word began and since it ended.
        more: f32[..., 2], logits that the word counts more than once, and more than twice, as in "double five";
            f32[..., 0] without `GRU.counts`.
    """

    logits: Any
    times: Any
    more: Any

    @classmethod
    def of(cls, outputs: Any, num_labels: int) -> "StreamOutputs":
        """Splits the last axis of `outputs`, an array of numpy or jax."""
        first, second = num_labels + 1, num_labels + 3
        return cls(outputs[..., :first], outputs[..., first:second], outputs[..., second:])


class GRU(nn.Module):
    """A recurrent network on sound of any length, with one logit per label.

    Attributes:
        num_labels: the number of labels.
        rate_hz: the sampling rate of the sound in Hz.
        frontend: the front end, which computes frames from sound: "logmel"; "filterbank", log-mel with trainable
            filters; "learned", trainable convolutions; or "raw", the samples of each hop.
        window_samples: the number of samples that a frame covers.
        hop_samples: the number of samples from one frame to the next.
        num_bands: the number of features of a frame.
        low_hz: the lower end of the lowest band.
        high_hz: the upper end of the highest band.
        normalise: "fixed" brings each band to the mean 0 and standard deviation 1 over the training frames; "running"
            then subtracts the band's running mean, which compensates for microphone and room; "none".
        normalise_decay: the running mean's decay per frame; 0.98 is a mean over about 50 frames.
        mask_bands: in training, up to this many neighbouring bands of each row are set to zero after the normalisation,
            in all its frames (SpecAugment, Park et al. 2019, arXiv:1904.08779).
        cell: the recurrent cell, "gru", or "min_gru", whose gates do not depend on the state.
        features: the size of each layer's state.
        num_layers: the number of recurrent layers.
        memory_frames: the longest time constant, in steps, for which the update gates' biases are initialised; 0 for
            biases of zero.
        dropout: the dropout rate before each layer but the first, and before the logits.
        readout: which of the last layer's outputs the logits depend on: the "last" one, the "mean" of all so far, the
            "running" mean over about 25 frames, or "last_and_mean", concatenated.
        mask_padding: whether a clip's padding is left out of the result; if not, it is treated as sound.
        stack_frames: the number of neighbouring frames that form one step of the recurrence.
        channels: the output channels of each causal convolution over steps and bands before the recurrence; () for
            no convolutions.
        dense: the size of a dense layer before the recurrence; 0 for none.
        task: "clips"; or "streams", with the outputs `StreamOutputs` at every step. It needs the readout "last".
        counts: whether a network for streams also predicts how many times a word counts, 2 in "double five".
        dtype: the type of the matrix products after the front end, "float32" or "bfloat16"; parameters, states and
            logits stay float32.
        kernels: "auto" uses code tuned for the CPU, with custom gradients, where jax runs on a CPU; "plain" never does.
    """

    any_length = True

    num_labels: int = 10
    rate_hz: int = 8000
    frontend: str = "logmel"
    window_samples: int = 200
    hop_samples: int = 80
    num_bands: int = 40
    low_hz: float = 50.0
    high_hz: float = 4000.0
    normalise: str = "fixed"
    normalise_decay: float = 0.98
    mask_bands: int = 0
    cell: str = "gru"
    features: int = 128
    num_layers: int = 1
    memory_frames: int = 0
    dropout: float = 0.0
    readout: str = "mean"
    mask_padding: bool = True
    stack_frames: int = 1
    channels: tuple[int, ...] = ()
    dense: int = 0
    counts: bool = False
    task: str = "clips"
    dtype: str = "float32"
    kernels: str = "auto"

    @property
    def step_samples(self) -> int:
        """The number of samples of sound that one step of the recurrence takes."""
        return self.hop_samples * self.stack_frames

    def setup(self) -> None:
        """Creates the layers; raises InputError for a field with an unknown choice."""
        for name, choices in (("normalise", NORMALISATIONS), ("cell", CELLS), ("readout", READOUTS)):
            if getattr(self, name) not in choices:
                raise InputError(f"config.model.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        streams = self.task == "streams"
        if streams and self.readout != "last":
            raise InputError(f"config.model.readout is {self.readout!r}; config.task='streams' needs 'last'.")
        self.front_end = frontend.of(self)
        self.norm = nn.BatchNorm(momentum=0.9, use_scale=False, use_bias=False)
        dtype, tuned = jnp.dtype(self.dtype), kernels.tuned(self.kernels)
        self.convolutions = [CausalConv(features, dtype, tuned) for features in self.channels]
        self.inputs = nn.Dense(self.dense, dtype=dtype) if self.dense else None
        cell: dict[str, Any] = dict(dtype=dtype) | (dict(tuned=tuned) if self.cell == "gru" else {})
        self.layers = [CELLS[self.cell](self.features, self.memory_frames, **cell) for _ in range(self.num_layers)]
        self.drop = nn.Dropout(self.dropout)
        self.logits = nn.Dense(self.num_labels + streams, dtype=dtype)
        self.times = nn.Dense(2, dtype=dtype) if streams else None
        rare = nn.initializers.constant(-3.0)
        self.more = nn.Dense(MAX_COUNT - 1, bias_init=rare, dtype=dtype) if streams and self.counts else None

    def initial_carry(self, batch_size: int) -> Carry:
        """Returns the state of `batch_size` streams before their first step: all zeros."""
        bands = self.hop_samples if self.frontend == "raw" else self.num_bands
        sizes = (self.front_end.context_samples, bands, self.features)
        context, level, state = (jnp.zeros((batch_size, size)) for size in sizes)
        total, weight = (jnp.zeros((batch_size, len(READOUTS[self.readout]), size)) for size in (self.features, 1))
        frames = []
        for channels in (self.stack_frames, *self.channels)[: len(self.channels)]:
            frames.append(jnp.zeros((batch_size, WIDTH - 1, bands, channels)))
            bands = -(-bands // 2)
        return Carry(context, level, tuple(frames), (state,) * self.num_layers, total, weight)

    def start_of_stream(self, batch_size: int) -> Carry:
        """Returns the state of `batch_size` streams before their first sound: that after `LEAD_STEPS` of faint noise.

        The network must have `task` "streams". From a state of zeros it would miss words at the start.
        """
        noise = jnp.asarray(lead(LEAD_STEPS * self.step_samples))
        carry, _ = self.listen(self.initial_carry(1), noise[None])
        streams: Carry = jax.tree.map(lambda x: jnp.repeat(x, batch_size, axis=0), carry)
        return streams

    def step(self, carry: Carry, audio: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step of B streams: returns their state after `audio`, and the outputs at this step.

        Args:
            carry: the state after the step before.
            audio: i16[B, step_samples], or f32 at int16 scale, the next samples of each stream.

        Returns:
            The next state, and the outputs: logits f32[B, num_labels], or, if `task` is "streams", the concatenated
            `StreamOutputs`, f32[B, n].
        """
        sound = jnp.concatenate([carry.context, frontend.to_unit_range(audio, jnp.dtype("float32"))], axis=1)
        x, level = self._normalised(self.front_end(sound).swapaxes(0, 1), carry.level)
        x, frames = self._inputs(x, carry.frames)
        x, hidden = x[0], []
        for layer, state in zip(self.layers, carry.hidden, strict=True):
            x = layer.advance(state, x)
            hidden.append(x)
        keep = jnp.asarray(READOUTS[self.readout])[None, :, None]
        total, weight = keep * carry.total + x[:, None], keep * carry.weight + 1
        context = sound[:, self.step_samples :]
        averages = (total / weight).reshape(total.shape[0], -1)
        return Carry(context, level, frames, tuple(hidden), total, weight), self._read(averages)

    def listen(self, carry: Carry, audio: jax.Array, *, train: bool = False) -> tuple[Carry, jax.Array]:
        """Takes N steps of B streams at once; the network must have `task` "streams".

        Args:
            carry: the state after the step before.
            audio: i16[B, N * step_samples], or f32 at int16 scale, the next samples of each stream.
            train: whether dropout is on and the normalisation uses the batch's statistics.

        Returns:
            The state after the last step, and the outputs of all steps, concatenated `StreamOutputs` f32[B, N, n].
        """
        sound = jnp.concatenate([carry.context, frontend.to_unit_range(audio, jnp.dtype("float32"))], axis=1)
        x, level = self._normalised(self.front_end(sound).swapaxes(0, 1), carry.level, train=train)
        x, frames = self._inputs(x, carry.frames)
        x, hidden = self._run(x, carry.hidden, train)
        context = sound[:, sound.shape[1] - carry.context.shape[1] :]
        carry = carry._replace(context=context, level=level, frames=frames, hidden=hidden)
        return carry, self._read(x, train=train).swapaxes(0, 1)

    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits f32[B, num_labels] for B whole clips.

        Args:
            audio: i16[B, T], or f32[B, T] at int16 scale (-32768 to 32767), zero right-padded.
            length: i32[B], the number of samples of each clip without padding.
            train: whether dropout is on and the normalisation uses the batch's statistics.
        """
        start = self.initial_carry(audio.shape[0])
        sound = jnp.pad(
            frontend.to_unit_range(audio, jnp.dtype("float32")), ((0, 0), (0, -audio.shape[1] % self.step_samples))
        )
        x = self.front_end(jnp.concatenate([start.context, sound], axis=1)).swapaxes(0, 1)
        length = length if self.mask_padding else jnp.full_like(length, audio.shape[1])
        valid = jnp.arange(len(x), dtype=jnp.int32)[:, None] * self.hop_samples < length[None, :]
        x, _ = self._normalised(x, start.level, valid=valid[..., None], train=train)
        x, _ = self._run(self._inputs(x, start.frames)[0], start.hidden, train)
        weights = readout_weights(self.readout, -(-length // self.step_samples), len(x))
        averages = jnp.einsum("nbf,rnb->brf", x, weights)
        return self._read(averages.reshape(averages.shape[0], -1), train=train)

    def _inputs(self, frames: jax.Array, before: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Returns the recurrence's inputs [N, B, inputs] for `frames` [N * stack_frames, B, bands].

        `before` are the last inputs of each convolution; those after these frames are returned too.
        """
        num_frames, num_rows, num_bands = frames.shape
        frames = frames.astype(jnp.dtype(self.dtype))
        x, after = frames.reshape(-1, self.stack_frames, num_rows, num_bands), []
        if self.convolutions:
            x = x.transpose(0, 2, 3, 1)
            for convolve, last in zip(self.convolutions, before, strict=True):
                last, x = convolve(last, x)
                after.append(last)
        else:
            x = x.swapaxes(1, 2)
        x = x.reshape(num_frames // self.stack_frames, num_rows, -1)
        return (nn.relu(self.inputs(x)) if self.inputs else x), tuple(after)

    def _run(self, x: jax.Array, states: tuple[Any, ...], train: bool) -> tuple[jax.Array, tuple[Any, ...]]:
        """Returns the last layer's outputs [N, B, features] for inputs `x` [N, B, inputs], and each layer's state."""
        hidden = []
        for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            x = layer.run(state, self.drop(x, deterministic=not train) if i else x)
            hidden.append(x[-1])
        return x, tuple(hidden)

    def _read(self, read: jax.Array, train: bool = False) -> jax.Array:
        """Returns the outputs for the averages `read` [..., features]: logits, or for streams `StreamOutputs`."""
        read = self.drop(read, deterministic=not train)
        logits = self.logits(read).astype(jnp.float32)
        if self.times is None:
            return logits
        parts = [logits, nn.softplus(self.times(read).astype(jnp.float32))]
        if self.more is not None:
            parts.append(self.more(read).astype(jnp.float32))
        return jnp.concatenate(parts, axis=-1)

    def _normalised(
        self, frames: jax.Array, level: jax.Array, valid: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Returns `frames` [N, B, bands] normalised, and their running mean; statistics count `valid` frames only."""
        if self.normalise == "none":
            return self._masked(frames, train), level
        x = self.norm(frames, use_running_average=not train, mask=valid)
        if self.normalise == "fixed":
            return self._masked(x, train), level
        levels = running_levels(level, x, self.normalise_decay)
        return self._masked(x - levels, train), levels[-1]

    def _masked(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the frames `x` [N, B, bands] with random bands of each row set to zero, if in training."""
        if not (train and self.mask_bands):
            return x
        first, size = jax.random.uniform(self.make_rng("dropout"), (2, x.shape[1], 1))
        first = first * (x.shape[2] + self.mask_bands) - self.mask_bands
        band = jnp.arange(x.shape[2], dtype=jnp.float32)[None]
        return jnp.where(((band >= first) & (band < first + size * self.mask_bands))[None], 0.0, x)
