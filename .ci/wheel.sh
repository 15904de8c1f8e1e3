#!/usr/bin/env bash
# Builds the wheel and trains from it in an empty folder, where no checkout and no data set is.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m build --outdir "$folder/dist" . >"$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }
# The dependencies are those of $python; the package itself is taken from the wheel alone.
"$python" -m pip install --quiet --no-deps --target "$folder/site" "$folder"/dist/*.whl
mkdir "$folder/empty"
cd "$folder/empty"
export PYTHONPATH="$folder/site" WANDB_MODE=disabled
"$python" -c "import os, audiojax; assert audiojax.__file__.startswith(os.environ['PYTHONPATH']), audiojax.__file__"
"$python" -c "import audiojax.configs.cnn"
test -e "$folder/site/audiojax/py.typed"
"$python" -m audiojax.main --config configs/cnn.py:runlocal --workdir run
sound=$(find "${AUDIOJAX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/audiojax}" -name '7_01_0.wav' -print -quit)
"$python" -m audiojax.predict "$sound" # the packaged recogniser
echo "The wheel works."
