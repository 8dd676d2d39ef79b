"""Dual encoders of clips as encoders of libraries: TimeMamba in pocket's tower, a ViViM before its text tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vlm.encoders.conftest import loaded
from vlm import Library
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.encoders.base import Window, WindowEncoder
from vlm.encoders.registry import load_encoder
from vlm.errors import InputError, WeightsUnavailable
from vlm.models.clip_model import ClipModel, VideoTowerConfig
from vlm.models.finetune import FinetuneConfig
from vlm.models.tower_adapter import TowerAdapterConfig

WINDOW = Window(frames=2, seconds=4.0, stride=2.0)
KINDS = ("timemamba", "vivim")


def save(folder: Path, kind: str, *, seed: int = 0, window: Window = WINDOW) -> ClipModel:
    torch.manual_seed(seed)
    tower = VideoTowerConfig(kind="vivim", image_size=32, num_frames=2, width=16, num_layers=1, d_state=4)
    adapter, chosen = TowerAdapterConfig(d_state=4), FinetuneConfig(mode="heads" if kind == "vivim" else "adapters")
    tower = tower if kind == "vivim" else VideoTowerConfig()
    model = ClipModel(loaded("pocket"), adapter, chosen, tower=tower, window=window).eval()
    for layer in () if model.adapter is None else model.adapter.layers:
        torch.nn.init.constant_(layer.gate, 0.5)
    model.save(folder)
    return model


def clips(encoder: WindowEncoder, count: int = 5) -> np.ndarray:
    framing = encoder.preprocessing.framing
    return np.random.default_rng(0).integers(0, 256, (count, 2, framing.height, framing.width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_and_texts_are_those_of_the_model(tmp_path: Path, kind: str):
    model = save(tmp_path, kind)
    encoder = load_encoder(f"clips:{tmp_path}", device="cpu")
    assert isinstance(encoder, WindowEncoder)
    assert (encoder.window, encoder.dim, encoder.name) == (WINDOW, loaded("pocket").dim, f"clips:{tmp_path}")
    windows = clips(encoder)
    with torch.no_grad():
        expected = model.encode_video(torch.from_numpy(windows)).numpy()
        texts = model.encode_text(["a red circle", "a blue star moves left"]).numpy()
    np.testing.assert_allclose(encoder.encode_windows(windows, np.zeros((5, 2))), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_text(["a red circle", "a blue star moves left"]), texts, atol=1e-5)
    still = np.repeat(windows[:, :1], 2, axis=1)
    np.testing.assert_allclose(encoder.encode_frames(windows[:, 0]), encoder.encode_windows(still, np.zeros((5, 2))), atol=1e-6)
    assert encoder.encode_windows(windows[:0], np.zeros((0, 2))).shape == (0, encoder.dim)
    with pytest.raises(InputError, match=r"windows must be uint8 \(b, 2, "):
        encoder.encode_windows(windows[:, :1], np.zeros((5, 1)))


def test_the_fingerprint_is_that_of_weights_and_window(tmp_path: Path):
    save(tmp_path / "one", "vivim")
    save(tmp_path / "other", "vivim", seed=1)
    save(tmp_path / "longer", "vivim", window=Window(frames=2, seconds=5.0, stride=2.0))
    save(tmp_path / "again", "vivim")
    found = {name: load_encoder(f"clips:{tmp_path / name}", device="cpu").fingerprint for name in ("one", "other", "longer", "again")}
    assert found["one"] == found["again"]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_library_is_searched_by_windows_of_such_an_encoder(tmp_path: Path, kind: str):
    save(tmp_path / "model", kind)
    (video,) = render_worlds(tmp_path / "videos", [make_world(3, 0, seconds=9.0, num_events=1)], size=64, frame_rate=4)
    with Library.open(tmp_path / "library", encoder=f"clips:{tmp_path / 'model'}", device="cpu") as library:
        library.add(video.path)
        hits = library.search("a red circle moves left").hits
        (stored,) = library.videos()
    assert len(hits) >= 1
    assert {hit.video_id for hit in hits} == {stored.video_id}
    with Library.open(tmp_path / "library", device="cpu") as library:  # by the name in its passport
        again = library.search("a red circle moves left").hits
    assert [(hit.span, hit.score) for hit in again] == [(hit.span, hit.score) for hit in hits]


def test_folders_that_hold_no_such_encoder_are_refused(tmp_path: Path):
    with pytest.raises(WeightsUnavailable, match=r"folder .*none' of encoder .* does not exist"):
        load_encoder(f"clips:{tmp_path / 'none'}")
    save(tmp_path / "model", "vivim")
    config = json.loads((tmp_path / "model/config.json").read_text())
    for change, told in (({"format": 1}, "its format is 1"), ({"encoder": "python:evil.py:run"}, "a folder never chooses code to run")):
        (tmp_path / "model/config.json").write_text(json.dumps(config | change))
        with pytest.raises(WeightsUnavailable, match=told):
            load_encoder(f"clips:{tmp_path / 'model'}")
