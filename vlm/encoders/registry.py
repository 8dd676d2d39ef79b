"""Spec strings to encoders. Importing this module loads no model library; a plug-in without torch stays without torch.

openclip:MODEL/TAG            a model and its published weights      openclip:ViT-B-32/datacomp_xl_s13b_b90k
openclip:hf-hub:ORG/NAME      a hub repository in open_clip's form
openclip:local-dir:FOLDER     open_clip_config.json beside its weights
hf:ORG/NAME, hf:FOLDER        a dual encoder of transformers         hf:google/siglip2-base-patch16-224
pocket                        the small encoder in this package: it knows the drawn world of Toybox, not the real one
pocket:FOLDER                 one of your own training: python -m vlm.train pocket
clips:FOLDER                  a dual encoder of clips of your own training: python -m vlm.train clip-finetune, suite-mir
NAME                          an installed plug-in: entry point of the group vlm.encoders
python:MODULE:FACTORY         a plug-in of yours; also python:path/to/file.py:FACTORY
"""

from __future__ import annotations

from difflib import get_close_matches

from vlm.encoders.base import Encoder
from vlm.encoders.plugins import checked, installed_plugins, load_installed, load_python
from vlm.encoders.presets import PRESETS
from vlm.errors import UnknownEncoder

__all__ = ["DEFAULT_ENCODER", "checked", "installed_plugins", "load_encoder", "reopens_by_itself"]

DEFAULT_ENCODER = "openclip:ViT-B-32/datacomp_xl_s13b_b90k"
FORMS = (
    "openclip:MODEL/TAG, openclip:hf-hub:ORG/NAME, openclip:local-dir:FOLDER, hf:ORG/NAME, hf:FOLDER, pocket (knows Toybox only), "
    "pocket:FOLDER, clips:FOLDER, python:MODULE:FACTORY, python:FILE.py:FACTORY, or the name of an installed plug-in"
)


def load_encoder(spec: str, *, device: str = "auto", precision: str = "auto", offline: bool = False) -> Encoder:
    """The encoder that ``spec`` names, ready to encode. Its weights are downloaded where they are not in the cache, unless ``offline``.

    Args:
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``; a plug-in gets it where its factory takes it.
        precision: of frames on built-in encoders: ``auto`` measures bfloat16 where the processor has it.

    Raises:
        UnknownEncoder: the spec names nothing; the message lists the nearest names and the forms.
        WeightsUnavailable: the weights are not to be had, damaged, or unsafe. BackendUnavailable: no such device.
        EncoderError: a plug-in cannot be loaded or breaks the protocol.
    """
    kind, colon, rest = spec.partition(":")
    if kind == "openclip" and rest:
        from vlm.encoders.openclip import load_openclip

        return load_openclip(spec, device=device, precision=precision, offline=offline)
    if kind == "hf" and rest:
        from vlm.encoders.transformers import load_transformers

        return load_transformers(spec, device=device, precision=precision, offline=offline)
    if spec == "pocket" or (kind == "pocket" and rest):
        from vlm.encoders.pocket import load_pocket

        return load_pocket(spec, device=device, precision=precision)
    if kind == "clips" and rest:
        from vlm.encoders.clips import load_clips

        return load_clips(spec, device=device, offline=offline)
    if kind == "python" and rest:
        return load_python(spec, device=device)
    if not colon and spec in installed_plugins():
        return load_installed(spec, device=device)
    raise _unknown(spec)


def reopens_by_itself(spec: str) -> bool:
    """Whether a library may load ``spec`` from its passport; a ``python:`` spec must be named again: no library chooses code to run."""
    return not spec.startswith("python:")


def _unknown(spec: str) -> UnknownEncoder:
    known = [preset.spec for preset in PRESETS] + sorted(installed_plugins())
    near = get_close_matches(spec, known, n=3, cutoff=0.4)
    hint = f"the nearest known ones are {', '.join(near)}; " if near else ""
    return UnknownEncoder(f"encoder {spec!r} is unknown; {hint}the forms are {FORMS}")
