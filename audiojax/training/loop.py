"""The training loop."""

import contextlib
import itertools
import math
import signal
import time
from pathlib import Path
from typing import Any

from audiojax.training.preemption import Stopped
from audiojax.training.setup import set_up
from audiojax.training.sharding import preempted
from audiojax.training.step_log import StepLog, check_finite, epoch_line
from audiojax.training.task import Task


def run(
    task: Task, workdir: Path | str, *, num_devices: int | None = None, deadline: float = math.inf
) -> dict[str, Any]:
    """Trains the network of a task, from the last checkpoint in `workdir` if there is one.

    Returns the content of summary.json, the results of the finished run; an empty dict in other processes than the
    first. Results are a function of the config and the clips: a run that was stopped and resumed ends with the
    parameters of an uninterrupted one, bit for bit on the CPU.

    Args:
        task: What is trained: its data, loss and evaluation.
        workdir: The folder of the run, for checkpoints, logs and results.
        num_devices: Number of devices that share each batch; all visible ones by default.
        deadline: Time to stop, in seconds of `time.monotonic`; for single-process runs.

    Raises:
        InputError: The workdir has another run, the data or the config cannot be used, or the loss is not finite.
        Stopped: After Ctrl-C, SIGTERM or the deadline; the state is saved.
    """
    with contextlib.ExitStack() as stack:
        job = set_up(task, Path(workdir), num_devices, deadline, stack)
        if summary := job.finished():
            return summary
        num_epochs, state, done = task.config.train.num_epochs, job.state, job.first_step
        log = stack.enter_context(job.open_log())
        steps, batches = StepLog(log, task.train_metric, task.config.train.log_every_steps), job.batches()
        try:
            for epoch in range(job.first_epoch, num_epochs):
                start, first = time.perf_counter(), done
                for batch in itertools.islice(batches, job.last_step(epoch) - done):
                    if preempted(done):
                        raise Stopped("asked to stop", signal.SIGTERM)
                    state, report = job.train_step(state, batch, job.key)
                    done += 1
                    steps.add(done, report)
                steps.flush()
                row = job.epoch_row(epoch, state, done - first, start)
                check_finite(row, done)
                log.row(done, row)  # before the checkpoint: a resumed run drops rows that are ahead of it
                state = job.without_metrics(state)
                job.save(state, row)
                log.say(epoch_line(row, num_epochs))
            return job.report(state, log)
        except Stopped as stopped:
            steps.flush()
            job.save_unscored(state, done)
            where = f"stopped at step {done} of {job.num_steps}, which is saved; the same command resumes there."
            raise Stopped(where, stopped.signal_number) from None
