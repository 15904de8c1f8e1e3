"""What a start costs, counted, not timed: programs, what is compiled of them again, and what a help page imports."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

COUNTING = """
import collections, sys
from jax import monitoring
from audiojax import main
from audiojax.training import runlog

counts, at_first_step, advance = collections.Counter(), [], runlog.RunLog.advance
monitoring.register_event_listener(lambda name, **_: counts.update([name.split("/")[-1]]))
runlog.RunLog.advance = lambda *args: at_first_step.append(counts["compile_requests_use_cache"]) or advance(*args)
main.main(sys.argv[1:])
print("counted", at_first_step[0], counts["compile_requests_use_cache"], counts["cache_misses"])
"""


def counted(args: list[str], workdir, cache) -> list[int]:
    """Programs before the first step, in the whole run, and how many of them had to be compiled."""
    told = subprocess.run(
        [sys.executable, "-c", COUNTING, *args, f"--workdir={workdir}"],
        cwd=ROOT,
        env={**os.environ, "AUDIOJAX_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in told.stdout.splitlines()[-1].split()[1:]]


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tiny_args, tmp_path):
    args = [*tiny_args, "--config.train.num_epochs=1"]
    before_first_step, programs, compiled = counted(args, tmp_path / "first", tmp_path / "cache")
    assert before_first_step <= 8 and 0 < compiled <= programs <= 20
    assert counted(args, tmp_path / "second", tmp_path / "cache") == [before_first_step, programs, 0]


def test_help_imports_no_jax():
    code = (
        "import sys\nfrom audiojax import main\ntry:\n    main.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'jax', 'orbax', 'wandb', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
