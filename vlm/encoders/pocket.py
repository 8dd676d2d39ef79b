"""Pocket: the small encoder that comes with vlm. It knows the drawn world of Toybox and nothing of the real one.

    pocket            the weights in this package
    pocket:FOLDER     weights of your own training: python -m vlm.train pocket --out FOLDER

A folder holds config.json (architecture, preprocessing, sha256 of the weights), model.safetensors, vocabulary.json and README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import clause, pattern_of, some_attributes
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.base import Preprocessing
from vlm.encoders.fingerprint import fingerprint
from vlm.encoders.pocket_model import PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import PocketTokenizer
from vlm.encoders.towers import TorchEncoder, Towers
from vlm.encoders.weights import digest_of_tensors, read_json, read_tensors
from vlm.errors import InputError, WeightsUnavailable
from vlm.types import Framing

SPEC = "pocket"
SCOPE = "the drawn world of Toybox"
SHIPPED = Path(__file__).parent / "pocket_weights"
CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocabulary.json"
FORMAT = 1
BACKGROUND_SEED = 7_000_001
# Pixels about 0 with a spread about 1.
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True, slots=True)
class Familiar:
    """Where the styles of Toybox's frames lie, as a Gaussian (Lee et al. 2018, "A simple unified framework for detecting
    out-of-distribution samples and adversarial attacks"): mean (s,), precision (s, s), and the squared Mahalanobis distance beyond which a
    style is far.

    Styles, not the vectors of the shared space: those tell which thing is where, and anything at all is somewhere.
    """

    mean: NDArray[np.float32]
    precision: NDArray[np.float32]
    limit: float

    def distances(self, styles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared Mahalanobis distances (n,)."""
        away = styles - self.mean
        squared: NDArray[np.float32] = np.einsum("nd,nd->n", away @ self.precision, away)
        return squared

    def is_far(self, styles: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which styles (n, s) lie beyond the limit."""
        return self.distances(styles) > self.limit


class PocketEncoder(TorchEncoder):
    """A TorchEncoder that knows what it does not know."""

    scope = SCOPE

    def __init__(self, towers: Towers, tokenizer: PocketTokenizer, familiar: Familiar | None, **options: Any) -> None:
        super().__init__(towers, **options)
        self._tokenizer = tokenizer
        self._familiar = familiar

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """The words of ``texts`` that training never showed, each once; they are read in pieces, as well as may be."""
        return self._tokenizer.unknown_words(texts)

    def background_texts(self, number: int) -> list[str]:
        """So many different sentences about worlds of Toybox that nobody renders: of compositions that pocket was taught and of others in
        turn, since it likes the first more, with things named as Toybox names them."""
        found: dict[str, None] = {}
        dice = Dice(VERSION, "background")
        for index in count():
            world = make_world(BACKGROUND_SEED, index, split=("train", "test")[index % 2], seconds=30.0)
            for event in world.events:
                pattern = pattern_of(event, some_attributes(dice), target_mention=some_attributes(dice))
                found[clause(pattern, dice)] = None
            if len(found) >= number:
                break
        return list(found)[:number]

    def unfamiliar(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which frames (n, h, w, 3) are unlike those of Toybox: (n,) bool; none where the weights hold no statistics."""
        return np.zeros(len(frames), np.bool_) if self._familiar is None else self._familiar.is_far(self.styles(frames))

    @torch.inference_mode()
    def styles(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What frames (n, h, w, 3) are made of: PocketVision.style, (n, s). Always in float32, whatever the precision of the encoder."""
        vision = self._towers.vision
        assert isinstance(vision, PocketVision)
        styles: NDArray[np.float32] = vision.style(self.preprocess(torch.from_numpy(np.array(frames)))).cpu().numpy()
        return styles


def load_pocket(spec: str = SPEC, *, device: str = "auto", precision: str = "auto") -> PocketEncoder:
    """The encoder of ``pocket`` or ``pocket:FOLDER``.

    Raises:
        WeightsUnavailable: a file of the folder is missing or damaged, or the weights are not those that its config names.
    """
    folder = SHIPPED if spec == SPEC else Path(spec.removeprefix(f"{SPEC}:")).expanduser().absolute()
    if not folder.is_dir():
        raise WeightsUnavailable(f"folder {str(folder)!r} of encoder {spec!r} does not exist")
    held, config, tensors = _read(folder)
    preprocessing = _preprocessing(held, folder)
    words = read_json(folder / VOCABULARY).get("entries", [])
    try:
        tokenizer = PocketTokenizer(words, context=config.context)
    except InputError as error:
        raise WeightsUnavailable(f"{str(folder / VOCABULARY)!r} is damaged: {error}") from error
    vision, text = _towers(config, tensors, folder)
    familiar = None
    if "familiar.mean" in tensors:
        familiar = Familiar(tensors["familiar.mean"].numpy(), tensors["familiar.precision"].numpy(), float(held["familiar_limit"]))
    weights = digest_of_tensors([{name: tensor for name, tensor in tensors.items() if not name.startswith("familiar.")}])
    return PocketEncoder(
        Towers(
            vision.to(memory_format=torch.channels_last),
            tuple(vision.blocks),
            text,
            tokenizer,
            tokenizer.num_tokens,
            config.context,
            tokenizer,
        ),
        tokenizer,
        familiar,
        name=SPEC if spec == SPEC else f"{SPEC}:{folder}",
        fingerprint=fingerprint(
            weights=weights, architecture={"pocket": FORMAT} | asdict(config), preprocessing=preprocessing, tokenize=tokenizer
        ),
        dim=config.dim,
        preprocessing=preprocessing,
        device=device,
        precision=precision,
    )


def open_towers(folder: Path) -> tuple[PocketVision, PocketText, dict[str, Any]]:
    """The towers in a folder, in float32 on the CPU, and its whole config; for training that goes on from them.

    Raises:
        WeightsUnavailable: as ``load_pocket``.
    """
    held, config, tensors = _read(folder)
    return *_towers(config, tensors, folder), held


def save_pocket(
    folder: Path,
    vision: PocketVision,
    text: PocketText,
    config: PocketConfig,
    vocabulary: Sequence[str],
    *,
    trained: Mapping[str, Any],
    familiar: Familiar | None = None,
) -> Path:
    """Write a folder that ``load_pocket`` opens, weights as float16; gives ``folder``.

    Args:
        trained: on what and how, for the config; nothing is read from it.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {f"vision.{name}": value for name, value in vision.state_dict().items()}
    tensors |= {f"text.{name}": value for name, value in text.state_dict().items()}
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    if familiar is not None:
        # The precision spans many powers of ten: it stays in float32.
        halves |= {"familiar.mean": torch.from_numpy(familiar.mean), "familiar.precision": torch.from_numpy(familiar.precision)}
    save_file(halves, folder / WEIGHTS)
    held = {
        "format": FORMAT,
        "model": asdict(config),
        "preprocessing": {"resize": "squash", "interpolation": "bicubic", "mean": MEAN, "std": STD},
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "trained": dict(trained),
    }
    if familiar is not None:
        held["familiar_limit"] = familiar.limit
    (folder / VOCABULARY).write_text(json.dumps({"entries": list(vocabulary)}, indent=0) + "\n", "utf-8")
    (folder / CONFIG).write_text(json.dumps(held, indent=2) + "\n", "utf-8")
    return folder


def _read(folder: Path) -> tuple[dict[str, Any], PocketConfig, dict[str, Tensor]]:
    """Config, architecture and tensors of a folder, checked."""
    held = read_json(folder / CONFIG)
    config = _architecture(held, folder)
    _check_hash(folder / WEIGHTS, str(held.get("sha256", "")))
    return held, config, {name: tensor.float() for name, tensor in read_tensors(folder / WEIGHTS).items()}


def _towers(config: PocketConfig, tensors: Mapping[str, Tensor], folder: Path) -> tuple[PocketVision, PocketText]:
    vision, text = PocketVision(config), PocketText(config)
    _fill(vision, tensors, "vision", folder)
    _fill(text, tensors, "text", folder)
    return vision, text


def _architecture(held: Mapping[str, Any], folder: Path) -> PocketConfig:
    given = held.get("model")
    known = {field.name for field in fields(PocketConfig)}
    if held.get("format") != FORMAT or not isinstance(given, dict) or set(given) != known:
        raise WeightsUnavailable(
            f"{str(folder / CONFIG)!r} is no config of pocket in format {FORMAT}: it needs 'model' with {', '.join(sorted(known))}"
        )
    try:
        return PocketConfig(**given)
    except (InputError, TypeError) as error:
        raise WeightsUnavailable(f"{str(folder / CONFIG)!r} is damaged: {error}") from error


def _preprocessing(held: Mapping[str, Any], folder: Path) -> Preprocessing:
    try:
        given, size = held["preprocessing"], held["model"]["image_size"]
        framing = Framing(height=size, width=size, resize=given["resize"], interpolation=given["interpolation"])
        return Preprocessing(framing, tuple(given["mean"]), tuple(given["std"]))
    except (KeyError, TypeError, InputError) as error:
        raise WeightsUnavailable(f"'preprocessing' in {str(folder / CONFIG)!r} is damaged: {error!r}") from error


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise WeightsUnavailable(f"weights {str(path)!r} do not exist")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise WeightsUnavailable(
            f"weights {str(path)!r} have sha256 {found}, but {CONFIG} names {expected or 'none'}: they are damaged or of another model; "
            "install vlm again, or save the folder again"
        )


def _fill(tower: PocketVision | PocketText, tensors: Mapping[str, Tensor], name: str, folder: Path) -> None:
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    try:
        tower.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsUnavailable(f"weights in {str(folder)!r} do not fit their config: {' '.join(str(error).split())[:300]}") from error
