"""Metrics as sums, which are added over batches and divided once."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Metrics(flax.struct.PyTreeNode):
    """The loss and the confusion matrix of a set of predictions, as sums, so that the metrics of two sets can be added.

    A prediction is that of one clip, or of one step of a stream. `summary` returns the means.
    """

    loss_sum: jax.Array | np.ndarray  # f32[]
    confusion: jax.Array | np.ndarray  # i32[labels, labels], [true, predicted]

    @classmethod
    def zero(cls, num_labels: int) -> "Metrics":
        """Returns the metrics of no predictions, zeros."""
        return cls(np.zeros((), np.float32), np.zeros((num_labels, num_labels), np.int32))

    @classmethod
    def of(cls, logits: Any, label: Any, mask: Any) -> "Metrics":
        """Returns the metrics of a batch.

        The predictions are `logits` f32[B, labels], the true labels `label` i32[B]. `mask` f32[B] is 1 for predictions
        that count, and 0 for padding. For streams, the steps are a second axis of all three. Raises ValueError for
        a mask of another shape than `label`, because [B, 1] would be broadcast to a wrong sum.
        """
        if mask.shape != label.shape:
            raise ValueError(f"mask has shape {mask.shape}, label {label.shape}; they must be the same")
        num_labels = logits.shape[-1]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        cell = label * num_labels + jnp.argmax(logits, axis=-1)
        confusion = jnp.zeros(num_labels * num_labels, jnp.int32).at[cell].add(mask.astype(jnp.int32))
        return cls(jnp.sum(loss * mask), confusion.reshape(num_labels, num_labels))

    @property
    def count(self) -> int:
        """Returns the number of predictions."""
        return int(np.sum(self.confusion))

    def __add__(self, other: "Metrics") -> "Metrics":
        """Returns the metrics of the two sets of predictions together."""
        return Metrics(self.loss_sum + other.loss_sum, self.confusion + other.confusion)

    def summary(self, accuracy_name: str = "accuracy") -> dict[str, float]:
        """Returns `loss`, the mean cross-entropy in nats, and under `accuracy_name` the accuracy in [0, 1]."""
        correct, count = np.trace(np.asarray(self.confusion)), self.count
        return {"loss": float(self.loss_sum) / count, accuracy_name: float(correct) / count}
