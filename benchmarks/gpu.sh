#!/bin/sh
# The state-space core on a machine with an NVIDIA GPU, in three minutes: tests of the CUDA kernels, how best to cut up the work, times.
#
#     sh benchmarks/gpu.sh                 # python 3.12, torch 2.11 and triton 3.6 are there; no network is needed
#     PYTHON=python3.12 LOGS=/tmp/gpu sh benchmarks/gpu.sh
#     OFFICIAL=mamba_ssm-2.3.2.post1 sh benchmarks/gpu.sh      # an unpacked sdist of mamba_ssm, whose kernel is built first (100 s)
#
# Where mamba_ssm can be imported, its kernel is the yardstick; else our own one-direction kernel run twice with flips.
# A part that fails or takes too long costs only itself; the exit status is that of the tests.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
LOGS=${LOGS:-${OUT:-/tmp/vlm-gpu}}
mkdir -p "$LOGS"
export PYTHONUNBUFFERED=1
bench() { limit=$1; shift; timeout "$limit" "$PYTHON" -m benchmarks.ssm_gpu "$@" 2>&1; }

"$PYTHON" -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "torch sees no CUDA device on this machine")' || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$PYTHON" -c 'import torch, triton; print("torch", torch.__version__, "triton", triton.__version__)'
"$PYTHON" -c 'import benchmarks.ssm_gpu' || exit 1

if [ -n "${OFFICIAL:-}" ]; then
    timeout 240 "$PYTHON" -m benchmarks.official_kernel "$OFFICIAL" "$LOGS/site" >"$LOGS/official.log" 2>&1 || tail -5 "$LOGS/official.log"
    export PYTHONPATH="$LOGS/site${PYTHONPATH:+:$PYTHONPATH}"
fi
bench 60 --compile >"$LOGS/compile.log" &
bench 60 --check >"$LOGS/check.log"
status=$?
cut -c1-300 "$LOGS/check.log"
echo "tests: exit status $status"
wait
bench 30 --sweep >"$LOGS/sweep.log"
tail -16 "$LOGS/sweep.log" | cut -c1-300
best=$(sed -n 's/^best: *//p' "$LOGS/sweep.log")
bench 60 --tuning="$best" >"$LOGS/measure.log"
cut -c1-300 "$LOGS/measure.log"
bench 15 --kernels --tuning="$best" >"$LOGS/kernels.log"
cut -c1-140 "$LOGS/kernels.log"
exit $status
