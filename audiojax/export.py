"""Writes a trained network as files that run without this package: StableHLO for jax, ONNX for everything else.

classifier.* hears whole clips; step.*, of a recurrent network, one hop of a stream after the other and what it is to
remember. manifest.json says what goes in and comes out. Nothing is written unless each file's answers are the network's
own, on the run's test clips. experiments/recognize_onnx.py listens to a file with nothing but ONNX's runtime.
"""

from pathlib import Path

from audiojax import cli
from audiojax.exporting.verify import has_onnx, write
from audiojax.inference import Trained


def main(argv: list[str]) -> None:
    parser = cli.parser("export", __doc__ or "")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, help="export the run in this folder, which training printed")
    which.add_argument("--packaged", action="store_true", help="export the listener that comes with the package")
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder to write (default: WORKDIR/export); replaced only where it is empty or an earlier export",
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
    print(f"\nThe largest differences from the network's own answers, on {checked_on}.")
    print(f"Written with manifest.json: {out}")


if __name__ == "__main__":
    cli.run(main)
