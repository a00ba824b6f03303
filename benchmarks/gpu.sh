#!/usr/bin/env bash
# Everything that a GPU should answer, in one go of under nine minutes: benchmarks/gpu.sh OUT.json
# PYTHON names the interpreter, by default .venv/bin/python if it is there, else python3; it must have torch with CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?"usage: benchmarks/gpu.sh OUT.json"}
if [ -z "${PYTHON:-}" ]; then PYTHON=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3); fi
export PYTHONPATH=src:.
exec "$PYTHON" benchmarks/runs/gpu.py --out "$out" --minutes "${MINUTES:-8.5}"
