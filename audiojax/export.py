"""Exports a trained network to files that run without this package: StableHLO for jax, ONNX for other runtimes.

classifier.* maps whole clips to logits; step.*, of a recurrent network, maps one step of a stream and the state to
logits and the next state. manifest.json describes inputs and outputs. The files are written only if their outputs equal
those of the network on test clips. experiments/streaming/recognize_onnx.py runs such a step with onnxruntime only.
"""

from pathlib import Path

from audiojax import cli
from audiojax.exporting.manifest import has_onnx
from audiojax.exporting.verify import write
from audiojax.inference import Trained


def main(argv: list[str]) -> None:
    """Exports the network of a run, or the packaged streaming recogniser, and prints a table of the files."""
    parser = cli.parser("export", __doc__ or "")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, help="export the run in this folder, which training printed")
    which.add_argument("--packaged", action="store_true", help="export the packaged streaming recogniser")
    parser.add_argument(
        "--out",
        type=Path,
        help="output folder (default: WORKDIR/export); it has to be empty or an earlier export",
    )
    args = parser.parse_args(argv)
    if args.packaged and not args.out:
        parser.error("--packaged needs --out DIR")
    cli.setup_jax()
    out = args.out or args.workdir / "export"
    run = Trained.load(args.workdir) if args.workdir else Trained.packaged()
    files, checked_on = write(run, out)
    print(f"{'file':<22} {'MB':>6} {'error':>9}   in onnxruntime, one thread")
    for file in files:
        unit = "a step" if file.name.startswith("step") else "a clip"
        taken = "-" if file.milliseconds is None else f"{file.milliseconds:.2f} ms {unit}"
        print(f"{file.name:<22} {file.num_bytes / 1e6:>6.2f} {file.error:>9.1e}   {taken}")
    if not has_onnx(run):
        print(f"\nNo ONNX file: config.model.name is {run.config.model.name!r}, which has no ONNX graph.")
    print(f"\nThe errors are the largest differences from the outputs of the network, on {checked_on}.")
    print(f"Written with manifest.json: {out}")


if __name__ == "__main__":
    cli.run(main)
