"""A ViT-B-32 of open_clip with random weights in a folder: as fast as with trained ones, and no download."""

from __future__ import annotations

import json
from pathlib import Path


def random_vit(work: Path) -> str:
    """The spec of the encoder in ``work``, saved once."""
    folder = work / "ViT-B-32-random"
    if not (folder / "open_clip_config.json").exists():
        import open_clip
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        model = open_clip.create_model("ViT-B-32")
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
        config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": open_clip.get_model_preprocess_cfg(model)}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"openclip:local-dir:{folder}"
