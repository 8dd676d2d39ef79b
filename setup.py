"""Builds the C++ kernels of vlm/ssm/native where there is a compiler; everything else is in pyproject.toml.

Without a compiler the installation goes on, and the reason is left beside the package, where ``vlm doctor`` reads it.
"""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "vlm/ssm/native"
NOTE = "not_built.txt"
COMMON = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fvisibility-inlines-hidden",
    "-pthread",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",
]
# Each file is compiled for its own processor; scan.cpp asks at run time which one this is.
INSTRUCTIONS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "plain": [],
}
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
NAMES = list(INSTRUCTIONS) if IS_X86 else ["plain"]


class BuildKernels(build_ext):
    """Compiles each kernel with the flags of its processor, and survives when that fails."""

    def build_extension(self, ext: Extension) -> None:
        """Leaves either the library or the reason why there is none."""
        library = Path(self.get_ext_fullpath(ext.name))
        note = library.parent / NOTE
        try:
            self._compile(library)
            note.unlink(missing_ok=True)
        except Exception as error:  # whatever a compiler can do wrong must not stop the installation
            library.unlink(missing_ok=True)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{type(error).__name__}: {error}\n".replace(str(Path.home()), "~"))
            self.warn(f"the C++ kernels of vlm were not built, the slower path in torch is used instead: {error}")

    def _compile(self, library: Path) -> None:
        objects: list[str] = []
        macros: list[tuple[str, str | None]] = [(f"WITH_{name.upper()}", "1") for name in NAMES]
        for name, flags in [("scan", []), *((f"kernel_{name}", INSTRUCTIONS[name]) for name in NAMES)]:
            objects += self.compiler.compile(
                [f"{FOLDER}/{name}.cpp"], output_dir=self.build_temp, macros=macros, extra_postargs=[*COMMON, *flags]
            )
        library.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(library), extra_postargs=["-pthread"], target_lang="c++")

    def get_outputs(self) -> list[str]:
        """What was left, for those who record installed files."""
        return [output for output in super().get_outputs() if Path(output).exists()]

    def copy_extensions_to_source(self) -> None:
        """An editable installation finds the library, or the note, in the tree."""
        super().copy_extensions_to_source()
        built = Path(self.get_ext_fullpath(kernels.name)).parent / NOTE
        here = Path(FOLDER) / NOTE
        here.unlink(missing_ok=True)
        if built.is_file():
            here.write_bytes(built.read_bytes())


kernels = Extension(
    "vlm.ssm.native.kernels",
    sources=[f"{FOLDER}/{name}.cpp" for name in ("scan", *(f"kernel_{name}" for name in INSTRUCTIONS))],
    depends=[str(path) for path in sorted(Path(FOLDER).glob("*.h"))],
    language="c++",
    optional=True,
)
setup(ext_modules=[kernels], cmdclass={"build_ext": BuildKernels})
