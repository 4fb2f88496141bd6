#!/bin/sh
# What the project claims of GPUs, measured on the one that is here: results into a folder, part by part.
#
#   benchmarks/gpu.sh OUT                           all parts, at most 8 minutes; again: what is not done yet
#   benchmarks/gpu.sh OUT --part tests --part memory
#   benchmarks/gpu.sh OUT --device cpu --size tiny  the whole way without a GPU: that it runs, no figures
#
# PYTHON names the interpreter (python3). Other options: benchmarks/gpu.sh --help, and benchmarks/README.md.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
