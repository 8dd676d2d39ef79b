#!/bin/sh
# The state-space core on a machine with an NVIDIA GPU, in under eight minutes: tests of the CUDA backends, then their times.
#
#     sh benchmarks/gpu.sh                 # python 3.12, torch 2.11 and triton are there; no network is needed
#     PYTHON=python3.12 sh benchmarks/gpu.sh
#
# IT HAS NOT BEEN RUN: no GPU was at hand when it was written. The kernels it tests are known to be right under Triton's interpreter alone.
# The yardstick of the times is our own one-direction kernel run twice with flips, and the official kernel where mamba_ssm is installed.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "torch sees no CUDA device on this machine")'
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$PYTHON" -c 'import torch, triton; print("torch", torch.__version__, "triton", triton.__version__)'
# The kernels for the CPU beside the package, if there is a compiler; the tests below do without.
"$PYTHON" setup.py -q build_ext --inplace || true
timeout 240 "$PYTHON" -m benchmarks.ssm_gpu --check
timeout 220 "$PYTHON" -m benchmarks.ssm_gpu
