"""What makes two encoders the same: everything that changes a vector, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import xxhash

from vlm.encoders.base import Preprocessing
from vlm.types import Framing

if TYPE_CHECKING:
    from torch import Tensor

# A tokenizer is what it does to these: case, punctuation, accents, numbers, other scripts, white space, a text beyond the context.
PROBE_TEXTS = ("A dog jumps!", "café déjà-vu, 42 naïve pigeons?", "一只狗在跑  \t and ПРИВЕТ", "it's a photo_of; UPPER case", "word " * 200)

# Written by whoever saved the file; says nothing about the vectors.
VOLATILE_KEYS = frozenset({"transformers_version", "_name_or_path", "_commit_hash", "torch_dtype", "dtype", "architectures", "auto_map"})


def fingerprint(
    *, weights: str, architecture: dict[str, Any], preprocessing: Preprocessing, tokenize: Callable[[Sequence[str]], Tensor]
) -> str:
    """A digest of four parts: that of the weights, a plain description, framing and normalisation, the tokens of PROBE_TEXTS."""
    whole = {
        "weights": weights,
        "architecture": architecture,
        "preprocessing": asdict(preprocessing) | {"framing": _without_defaults(preprocessing.framing)},
        "tokens": [tokenize([text]).flatten().tolist() for text in PROBE_TEXTS],
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(whole, sort_keys=True).encode())


def _without_defaults(framing: Framing) -> dict[str, Any]:
    """What ``framing`` says beyond its defaults: a field that is added one day leaves the fingerprints of libraries as they are."""
    return {field.name: getattr(framing, field.name) for field in fields(framing) if getattr(framing, field.name) != field.default}


def stable_config(config: Any) -> Any:
    """A configuration read from JSON, without the keys of VOLATILE_KEYS at any depth."""
    if isinstance(config, dict):
        return {key: stable_config(value) for key, value in config.items() if key not in VOLATILE_KEYS}
    if isinstance(config, list):
        return [stable_config(value) for value in config]
    return config
