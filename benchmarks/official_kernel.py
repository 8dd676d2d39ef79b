"""Builds the scan kernel of the package mamba_ssm from its sdist, where pip cannot: for this GPU alone, and real numbers alone.

    python -m pip download --no-deps --no-binary :all: --no-build-isolation mamba_ssm     # with MAMBA_SKIP_CUDA_BUILD=TRUE; then tar xf
    python -m benchmarks.official_kernel mamba_ssm-2.3.2.post1 /tmp/site                   # 100 s on 16 cores; needs nvcc
    PYTHONPATH=/tmp/site python -m benchmarks.ssm_gpu

The package's own build compiles for eight processors and for complex numbers, and imports models that the kernel does not need. Flags are
those of its setup.py.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

PARTS = ("fwd_fp32", "fwd_bf16", "fwd_fp16", "bwd_fp32_real", "bwd_bf16_real")
FLAGS = (
    *(f"-U__CUDA_NO_{kind}_{what}__" for kind in ("HALF", "BFLOAT16", "BFLOAT162") for what in ("OPERATORS", "CONVERSIONS")),
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--use_fast_math",
)
MODULES = ("ops/selective_scan_interface.py", "ops/triton/layer_norm.py", "utils/torch.py", "utils/determinism.py")
# What is not compiled is not called: its symbols may stay open.
LAZY = os.RTLD_LAZY | os.RTLD_GLOBAL
STAND_IN = f"""import sys
import torch
flags = sys.getdlopenflags()
sys.setdlopenflags({LAZY})
from selective_scan_official import bwd, fwd
sys.setdlopenflags(flags)
"""


def build(sdist: Path, site: Path) -> None:
    """Makes ``mamba_ssm.ops.selective_scan_interface`` importable from the new folder ``site``."""
    import torch
    from torch.utils.cpp_extension import load

    os.environ["TORCH_CUDA_ARCH_LIST"] = ".".join(str(number) for number in torch.cuda.get_device_capability())
    sys.setdlopenflags(LAZY)
    source, level = sdist / "csrc" / "selective_scan", ["-O3", "-std=c++17"]
    files = [source / "selective_scan.cpp", *(source / f"selective_scan_{part}.cu" for part in PARTS)]
    with tempfile.TemporaryDirectory() as work:
        load(
            "selective_scan_official",
            [str(file) for file in files],
            extra_include_paths=[str(source)],
            extra_cflags=level,
            extra_cuda_cflags=[*level, *FLAGS],
            build_directory=work,
            verbose=True,
        )
        site.mkdir(parents=True)
        shutil.copy(Path(work) / "selective_scan_official.so", site)
    (site / "selective_scan_cuda.py").write_text(STAND_IN, "utf-8")
    for module in MODULES:
        target = site / "mamba_ssm" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sdist / "mamba_ssm" / module, target)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
