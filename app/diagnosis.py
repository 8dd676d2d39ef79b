"""What ``vlm doctor`` looks at. Every function returns findings; a thing that is broken is a finding, never an error."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from vlm import __version__
from vlm.app.player import PLAYER_VARIABLE, find_players
from vlm.app.render import byte_size, count, duration
from vlm.app.schemas_machine import FindingOutput
from vlm.errors import VlmError

Status = Literal["ok", "warn", "fail"]

_ENOUGH_MEMORY = 4e9  # a CLIP base model, its activations and a decoder on two cores stay below


def finding(area: str, name: str, status: Status, found: str, reason: str = "") -> FindingOutput:
    """One line of the report; ``reason`` says why it is not ok, or what it is good for."""
    return FindingOutput(area=area, name=name, status=status, finding=found, reason=reason)


def versions() -> Iterator[FindingOutput]:
    """vlm, Python, and the packages that do the work."""
    yield finding("versions", "vlm", "ok", __version__)
    yield finding("versions", "Python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _package("torch", "torch", "runs the models")
    yield _faiss()
    yield _pyav()
    yield _package("open_clip", "open-clip-torch", "models named openclip:…")
    yield _package("transformers", "transformers", "models named hf:…")


def _package(name: str, distribution: str, purpose: str) -> FindingOutput:
    try:
        return finding("versions", name, "ok", metadata.version(distribution), purpose)
    except metadata.PackageNotFoundError:
        return finding("versions", name, "fail", "missing", f"pip install {distribution}: {purpose}")


def _pyav() -> FindingOutput:
    try:
        from vlm.video.probe import decoder_versions

        return finding("versions", "PyAV", "ok", decoder_versions(), "decodes videos")
    except (ImportError, OSError) as error:
        return finding("versions", "PyAV", "fail", "cannot be loaded", f"{error}: pip install --force-reinstall av")


def _faiss() -> FindingOutput:
    installed = [name for name in ("faiss-cpu", "faiss-gpu") if _is_installed(name)]
    try:
        from vlm.index.vectors import faiss_build

        build = faiss_build()
    except (ImportError, OSError) as error:
        return finding("versions", "FAISS", "fail", "cannot be loaded", f"{error}: pip install --force-reinstall faiss-cpu")
    if len(installed) > 1:
        return finding(
            "versions", "FAISS", "warn", build, "faiss-cpu and faiss-gpu are both installed and overwrite each other: docs/install.md"
        )
    return finding("versions", "FAISS", "ok", build, "searches the vectors")


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def machine() -> Iterator[FindingOutput]:
    """Cores, memory, vector instructions, and devices that models can run on."""
    yield finding("machine", "cores", "ok", _cores())
    yield _memory()
    yield _instructions()
    yield from _devices()


def _cores() -> str:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return f"{usable}" if usable == total else f"{usable} of {total} may be used by this process"


def _memory() -> FindingOutput:
    num_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _container_memory()
    usable = num_bytes if limit is None else min(num_bytes, limit)
    found = byte_size(usable) + (f" (this container's limit; the machine has {byte_size(num_bytes)})" if usable < num_bytes else "")
    if usable < _ENOUGH_MEMORY:
        return finding("machine", "memory", "warn", found, f"a CLIP base model wants {byte_size(_ENOUGH_MEMORY)}")
    return finding("machine", "memory", "ok", found)


def _container_memory() -> int | None:
    """The memory limit of this control group, where there is one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _instructions() -> FindingOutput:
    flags = _cpu_flags()
    if flags is None:
        return finding("machine", "processor", "ok", platform.machine())
    known = {"avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "avx512_bf16", "amx_tile": "amx"}
    found = " ".join(name for flag, name in known.items() if flag in flags) or "no vector extension that matters"
    if platform.machine() == "x86_64" and "avx2" not in flags:
        return finding("machine", "processor", "warn", found, "without avx2 decoding and models are several times slower")
    return finding("machine", "processor", "ok", found, "" if "avx512_bf16" in flags or "amx_tile" in flags else "no bf16 in hardware")


def _cpu_flags() -> frozenset[str] | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return None
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), None)


def _devices() -> Iterator[FindingOutput]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield finding("machine", "devices", "fail", "torch cannot be loaded", str(error))
        return
    names = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, {byte_size(torch.cuda.get_device_properties(i).total_memory)}"
        for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        names.append("mps")
    if names:
        yield finding("machine", "devices", "ok", "; ".join(names), "--device auto takes the first")
    else:
        built_for = f"this torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "this torch is built for the CPU"
        yield finding("machine", "devices", "ok", "cpu only", f"no CUDA or MPS device is seen; {built_for}")


def models() -> Iterator[FindingOutput]:
    """Models that are on this disk, and installed plug-ins."""
    from vlm.app.models import known_models

    known = known_models()
    here = [preset.spec for preset in known.presets if preset.cached]
    way_out = "" if here else "the first vlm add downloads one; without a network: docs/install.md"
    yield finding("models", "cache", "ok", known.cache.path, "HF_HOME moves it")
    yield finding("models", "presets here", "ok", ", ".join(here) or "none", way_out)
    yield finding("models", "plug-ins", "ok", ", ".join(f"{plugin.name} ({plugin.target})" for plugin in known.plugins) or "none")


def scans() -> Iterator[FindingOutput]:
    """Backends of the selective scan, which every state-space layer runs on."""
    try:
        from vlm.ssm.backends import BACKENDS
        from vlm.ssm.native.library import instructions
    except (ImportError, OSError) as error:
        yield finding("scan", "backends", "fail", "torch cannot be loaded", str(error))
        return
    for backend in BACKENDS:
        reason = backend.missing()
        name = f"backend {backend.name}"
        if reason is not None:
            # Only the compiled one is expected everywhere: without it all layers are several times slower on the CPU.
            yield finding("scan", name, "warn" if backend.name == "native" else "ok", "missing", reason)
        elif backend.name == "native":
            try:
                yield finding("scan", name, "ok", instructions(), backend.purpose)
            except VlmError as error:
                yield finding("scan", name, "fail", "set up wrongly", str(error))
        else:
            yield finding("scan", name, "ok", "present", backend.purpose)


def players() -> Iterator[FindingOutput]:
    """Players for ``vlm search --open``."""
    try:
        found = find_players()
    except VlmError as error:
        yield finding("players", "--open", "fail", f"{PLAYER_VARIABLE} is wrong", str(error))
        return
    if not found:
        yield finding("players", "--open", "warn", "none", f"install mpv, VLC or ffplay, or set {PLAYER_VARIABLE}")
    elif not found[0].seeks:
        yield finding("players", "--open", "warn", found[0].name, "it cannot be started at a moment: install mpv, VLC or ffplay")
    else:
        yield finding("players", "--open", "ok", ", ".join(player.name for player in found), "the first is used")


def library(folder: Path, *, was_named: bool) -> Iterator[FindingOutput]:
    """Whether the library in ``folder`` is whole, and its files where they were."""
    from vlm.errors import LibraryNotFound
    from vlm.index.library import Library

    try:
        with Library.open(folder, create=False) as held:
            sizes, problems, changes = held.stats(), held.verify(), held.changed_files()
    except LibraryNotFound as error:
        status: Status = "fail" if was_named else "ok"
        yield finding("library", "folder", status, f"none in {folder}", str(error) if was_named else "vlm add makes one")
        return
    except VlmError as error:
        yield finding("library", "folder", "fail", str(folder), str(error))
        return
    yield finding("library", "folder", "ok", str(folder), f"{byte_size(sizes.library_bytes + sizes.index_bytes)} on disk")
    yield finding(
        "library",
        "videos",
        "ok",
        f"{count(sizes.num_videos, 'video')}, {duration(3600 * sizes.hours)}, {count(sizes.num_segments, 'segment')}",
    )
    yield finding("library", "model", "ok", sizes.encoder or "none yet")
    for problem in problems:
        yield finding("library", "health", "fail", "damaged", f"{problem}; vlm check --rebuild")
    if not problems:
        yield finding("library", "health", "ok", "whole")
    yield _changes("changed files", len(changes.changed), "vlm add takes them in")
    yield _changes("missing files", len(changes.missing), "vlm rm --missing removes their videos")
    yield _changes("quarantine", sizes.num_quarantined, "vlm list --quarantined tells why")
    yield _changes("unfinished", sizes.num_unfinished, "the next vlm add goes on with them")


def _changes(name: str, number: int, way_out: str) -> FindingOutput:
    return finding("library", name, "warn" if number else "ok", f"{number:,}", way_out if number else "")


SECTIONS: tuple[Callable[[], Iterator[FindingOutput]], ...] = (versions, machine, scans, models, players)
