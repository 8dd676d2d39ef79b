"""Encoders that are known to work well, and what any spec would download: all answered from this disk, never from the network.

Widths and parameters are counted on open_clip's and transformers' own configurations (tests/vlm/encoders/test_presets.py does it again);
licences are those of the model cards on the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlm.encoders.hub import OPENCLIP_WEIGHTS, HubModel, cache_folder
from vlm.encoders.weights import has_all_weights

MACHINE = "AMD EPYC with avx512_bf16, 2 cores, one thread each"


@dataclass(frozen=True, slots=True)
class Measured:
    """Frames a second of one preset's vision tower with all cores at work, as benchmarks/encode.py printed it on ``machine``."""

    frames_per_second: float
    precision: str
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One encoder that ``vlm models`` lists.

    ``parameters`` counts both towers; ``download_bytes`` is about that number at the published precision, the tokenizer included.
    ``languages`` is ("*",) for a multilingual text tower. ``repository`` is where the weights lie on the Hugging Face hub,
    ``text_repository`` where a text model of its own has its configuration and tokenizer.
    """

    spec: str
    good_for: str
    dim: int
    parameters: int
    download_bytes: int
    licence: str
    languages: tuple[str, ...]
    repository: str
    text_repository: str | None = None
    measured: tuple[Measured, ...] = ()


PRESETS: tuple[Preset, ...] = (
    Preset(
        spec="openclip:ViT-B-32/datacomp_xl_s13b_b90k",
        good_for="CPU: the default, fast and good",
        dim=512,
        parameters=151_277_313,
        download_bytes=605_000_000,
        licence="MIT",
        languages=("en",),
        repository="laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        measured=(Measured(17.6, "float32", MACHINE), Measured(37.4, "bfloat16", MACHINE)),
    ),
    Preset(
        spec="openclip:ViT-B-16/datacomp_xl_s13b_b90k",
        good_for="CPU with time, any GPU: sees smaller things",
        dim=512,
        parameters=149_620_737,
        download_bytes=599_000_000,
        licence="MIT",
        languages=("en",),
        repository="laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        measured=(Measured(4.3, "float32", MACHINE), Measured(9.0, "bfloat16", MACHINE)),
    ),
    Preset(
        spec="openclip:PE-Core-B-16/meta",
        good_for="any GPU: trained on video too",
        dim=1024,
        parameters=447_660_545,
        download_bytes=1_791_000_000,
        licence="Apache-2.0",
        languages=("en",),
        repository="timm/PE-Core-B-16",
    ),
    Preset(
        spec="openclip:ViT-L-14/datacomp_xl_s13b_b90k",
        good_for="GPU",
        dim=768,
        parameters=427_616_513,
        download_bytes=1_710_000_000,
        licence="MIT",
        languages=("en",),
        repository="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    ),
    Preset(
        spec="openclip:PE-Core-L-14-336/meta",
        good_for="GPU: the best of this table for video",
        dim=1024,
        parameters=671_138_817,
        download_bytes=2_685_000_000,
        licence="Apache-2.0",
        languages=("en",),
        repository="timm/PE-Core-L-14-336",
    ),
    Preset(
        spec="openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        good_for="CPU: queries in many languages",
        dim=512,
        parameters=366_121_473,
        download_bytes=1_479_000_000,
        licence="MIT",
        languages=("*",),
        repository="laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        text_repository="xlm-roberta-base",
    ),
    Preset(
        spec="hf:google/siglip2-base-patch16-224",
        good_for="any GPU: queries in many languages",
        dim=768,
        parameters=375_187_970,
        download_bytes=1_540_000_000,
        licence="Apache-2.0",
        languages=("*",),
        repository="google/siglip2-base-patch16-224",
    ),
)

# Comes with the package: never a default but of the demo, and never downloaded.
POCKET = Preset(
    spec="pocket",
    good_for="demo and tests: knows the drawn world of Toybox and nothing of the real one",
    dim=384,
    parameters=1_955_532,
    download_bytes=0,
    licence="Apache-2.0",
    languages=("en",),
    repository="",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPlan:
    """What loading ``spec`` for the first time fetches from the hub, and where it is kept.

    ``num_bytes`` is about right for presets and 0 where nobody has said; ``dim`` is None there. ``cached``: the weights are already here.
    """

    spec: str
    repository: str
    folder: Path
    cached: bool
    num_bytes: int
    dim: int | None
    licence: str


def download_plan(spec: str) -> DownloadPlan | None:
    """The plan for ``spec``; None for what is never downloaded: local folders and plug-ins. Asks the disk, not the network."""
    preset = find_preset(spec)
    repository = preset.repository if preset is not None else _repository(spec)
    if repository is None:
        return None
    text_repository = None if preset is None else preset.text_repository
    return DownloadPlan(
        spec=spec,
        repository=repository,
        folder=cache_folder(),
        cached=_is_cached(spec, repository) and (text_repository is None or HubModel(spec, text_repository).cached_folder() is not None),
        num_bytes=0 if preset is None else preset.download_bytes,
        dim=None if preset is None else preset.dim,
        licence="see the model card" if preset is None else preset.licence,
    )


def _is_cached(spec: str, repository: str) -> bool:
    hub = HubModel(spec, repository)
    if spec.startswith("hf:"):
        folder = hub.cached_folder()
        return folder is not None and has_all_weights(folder)
    return hub.cached_file(OPENCLIP_WEIGHTS) is not None


def _repository(spec: str) -> str | None:
    kind, _, rest = spec.partition(":")
    if kind == "hf":
        return None if Path(rest).expanduser().is_dir() else rest
    if kind != "openclip":
        return None
    if rest.startswith("local-dir:"):
        return None
    if rest.startswith("hf-hub:"):
        return rest.removeprefix("hf-hub:")
    from vlm.encoders.openclip import tagged_repository

    return tagged_repository(spec)


def find_preset(spec: str) -> Preset | None:
    """The preset that ``spec`` names; None where it is none."""
    return next((preset for preset in PRESETS if preset.spec == spec), None)
