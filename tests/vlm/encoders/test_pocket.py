"""Pocket: found by its spec, checked against its hash, honest about what it does not know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlm.encoders.base import Encoder, TowerAccess
from vlm.encoders.pocket import CONFIG, VOCABULARY, WEIGHTS, Familiar, PocketEncoder, load_pocket, save_pocket
from vlm.encoders.pocket_model import PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import END, PAD, START, UNKNOWN, PocketTokenizer, build_vocabulary, split_words
from vlm.encoders.presets import PRESETS, download_plan
from vlm.encoders.registry import DEFAULT_ENCODER, load_encoder
from vlm.errors import InputError, WeightsUnavailable

WORDS = ["a", "red", "circle", "moves", "left", "medium-sized", "then"]
SMALL = {"dim": 24, "image_size": 32, "stem_width": 8, "grid_width": 16, "num_blocks": 1, "num_queries": 9, "query_width": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pocket with random weights."""
    vocabulary = build_vocabulary(WORDS)
    config = PocketConfig(**SMALL, vocabulary_size=len(vocabulary), context=12, text_width=32, text_layers=2)
    torch.manual_seed(0)
    vision, text = PocketVision(config), PocketText(config)
    rng = np.random.default_rng(0)
    familiar = Familiar(rng.normal(size=24).astype(np.float32) * 0.1, np.eye(24, dtype=np.float32), 2.0)
    return save_pocket(tmp_path_factory.mktemp("pocket") / "small", vision, text, config, vocabulary, trained={}, familiar=familiar)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> PocketEncoder:
    return load_pocket(f"pocket:{folder}", device="cpu", precision="float32")


def test_a_folder_is_opened_by_the_registry(folder: Path) -> None:
    found = load_encoder(f"pocket:{folder}", device="cpu")
    assert isinstance(found, PocketEncoder)
    assert isinstance(found, Encoder)
    assert isinstance(found, TowerAccess)
    assert (found.name, found.dim) == (f"pocket:{folder}", 24)
    assert "Toybox" in found.scope


def test_pocket_is_never_the_default_and_is_never_downloaded() -> None:
    assert not DEFAULT_ENCODER.startswith("pocket")
    assert download_plan("pocket") is None
    assert all(preset.spec != "pocket" for preset in PRESETS[:1])


def test_vectors_have_unit_length_and_tell_inputs_apart(encoder: PocketEncoder) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for vectors in (encoder.encode_frames(frames), encoder.encode_text(["a red circle", "moves left", "then"])):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.linalg.matrix_rank(vectors) == 3


def test_a_saved_encoder_gives_the_towers_own_vectors(folder: Path, encoder: PocketEncoder) -> None:
    again = load_pocket(f"pocket:{folder}", device="cpu", precision="float32")
    frames = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(encoder.encode_frames(frames), again.encode_frames(frames))
    assert encoder.fingerprint == again.fingerprint


def test_normalisation_of_training_is_that_of_the_shipped_preprocessing(encoder: PocketEncoder) -> None:
    from vlm.train.pocket_modules import normalised

    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    torch.testing.assert_close(normalised(frames), encoder.preprocess(frames), atol=1e-6, rtol=0)


def test_a_longer_neighbour_does_not_change_a_text(encoder: PocketEncoder) -> None:
    alone = encoder.encode_text(["a red circle"])
    np.testing.assert_allclose(encoder.encode_text(["a red circle", "a red circle moves left then left"])[:1], alone, atol=1e-5)


def test_later_tokens_do_not_change_earlier_ones(encoder: PocketEncoder) -> None:
    short, long = (encoder.encode_text_tokens([text]).vectors[0] for text in ("a red", "a red circle moves"))
    np.testing.assert_allclose(short[:3], long[:3], atol=1e-5)


def test_tokens_end_with_the_pooled_vector(encoder: PocketEncoder) -> None:
    tokens = encoder.encode_text_tokens(["a red circle", "left"])
    last = tokens.vectors[np.arange(2), tokens.mask.sum(axis=1) - 1]
    np.testing.assert_allclose(last / np.linalg.norm(last, axis=1, keepdims=True), encoder.encode_text(["a red circle", "left"]), atol=1e-5)
    assert not tokens.vectors[~tokens.mask].any()


def test_text_beyond_the_context_is_reported(encoder: PocketEncoder) -> None:
    assert encoder.unread_text("a red circle") == ""
    assert encoder.unread_text("a red circle moves left then left " * 2) != ""


@pytest.mark.parametrize("text", ["", "   ", "?!", "日本語", "x" * 5000, "naïve CAFÉ", "🙂 🙂", "\x00\x01"])
def test_any_text_has_a_vector(text: str, encoder: PocketEncoder) -> None:
    assert np.isfinite(encoder.encode_text([text])).all()


def test_unknown_words_are_named_once_each(encoder: PocketEncoder) -> None:
    assert encoder.unknown_words(["A red elephant moves", "the elephant, medium-sized!"]) == ["elephant", "the"]


def test_frames_of_another_style_than_those_of_training_are_told(encoder: PocketEncoder, frames: np.ndarray) -> None:
    near = encoder.styles(frames[:1])[0]
    known = Familiar(near, np.eye(len(near), dtype=np.float32), float(np.square(encoder.styles(frames[1:2]) - near).sum()) / 2)
    encoder._familiar = known
    assert encoder.unfamiliar(frames[:2]).tolist() == [False, True]


def test_a_style_tells_what_a_frame_is_made_of_and_not_where(encoder: PocketEncoder) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    frames = np.tile(tiles, (1, 8, 8, 1))
    moved = np.roll(frames, 16, axis=2)
    styles = encoder.styles(np.concatenate([frames, moved, np.zeros_like(frames)]))
    np.testing.assert_allclose(styles[0], styles[1], atol=1e-4)
    assert np.abs(styles[0] - styles[2]).max() > 0.1
    assert np.isfinite(styles).all()


def test_mahalanobis_distance_is_that_of_scaled_axes() -> None:
    familiar = Familiar(np.ones(2, np.float32), np.diag([4.0, 0.25]).astype(np.float32), 1.0)
    assert familiar.distances(np.array([[1.5, 1.0], [1.0, 3.0]], np.float32)).tolist() == [1.0, 1.0]


def copied(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place)
    return place


def change_config(folder: Path, **changes: Any) -> None:
    held = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(held | changes))


def test_weights_with_another_hash_are_refused_naming_both(folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path / "broken")
    named = json.loads((broken / CONFIG).read_text())["sha256"]
    weights = bytearray((broken / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (broken / WEIGHTS).write_bytes(bytes(weights))
    with pytest.raises(WeightsUnavailable) as caught:
        load_pocket(f"pocket:{broken}")
    import hashlib

    assert named in str(caught.value)
    assert hashlib.sha256(bytes(weights)).hexdigest() in str(caught.value)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, VOCABULARY])
def test_a_missing_file_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path / "broken")
    (broken / name).unlink()
    with pytest.raises(WeightsUnavailable, match=name):
        load_pocket(f"pocket:{broken}")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 2}, "format"),
        ({"model": {"dim": 3}}, "model"),
        ({"model": SMALL | {"vocabulary_size": 90, "context": 12, "text_width": 33, "text_layers": 2}}, "33"),
        ({"preprocessing": {"resize": "stretch", "interpolation": "bicubic", "mean": [0, 0, 0], "std": [1, 1, 1]}}, "stretch"),
    ],
)
def test_a_config_that_is_none_of_pocket_is_refused(changes: dict[str, Any], named: str, folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path / "broken")
    change_config(broken, **changes)
    with pytest.raises(WeightsUnavailable, match=named):
        load_pocket(f"pocket:{broken}")


def test_weights_of_another_width_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path / "broken")
    held = json.loads((broken / CONFIG).read_text())
    change_config(broken, model=held["model"] | {"dim": 32})
    with pytest.raises(WeightsUnavailable, match="do not fit"):
        load_pocket(f"pocket:{broken}")


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(WeightsUnavailable, match="/no/such/folder"):
        load_encoder("pocket:/no/such/folder")


def test_no_model_library_is_loaded(folder: Path) -> None:
    code = (
        f"import sys; from vlm.encoders.registry import load_encoder; load_encoder('pocket:{folder}').encode_text(['red']); "
        "print([name for name in ('open_clip', 'transformers', 'timm', 'faiss', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# The tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(build_vocabulary(WORDS), context=8)


def pieces(tokenizer: PocketTokenizer, text: str) -> list[str]:
    return [tokenizer.vocabulary[number] for number in tokenizer([text])[0].tolist()]


def test_whole_words_are_one_token_and_case_does_not_matter(tokenizer: PocketTokenizer) -> None:
    assert pieces(tokenizer, "A RED circle") == ["[start]", "a", "red", "circle", "[end]", "[pad]", "[pad]", "[pad]"]


def test_other_words_fall_into_the_longest_pieces(tokenizer: PocketTokenizer) -> None:
    assert pieces(tokenizer, "redding")[1:4] == ["red", "##d", "##ing"]


def test_letters_of_no_known_alphabet_are_unknown(tokenizer: PocketTokenizer) -> None:
    assert tokenizer(["日"])[0].tolist()[:3] == [START, UNKNOWN, END]


def test_a_cut_text_still_ends(tokenizer: PocketTokenizer) -> None:
    row = tokenizer(["a " * 50])[0].tolist()
    assert (len(row), row[-1], PAD in row) == (8, END, False)
    assert tokenizer.num_tokens("a " * 50) == 52


def test_accents_are_taken_off() -> None:
    assert split_words("Café déjà-vu!") == ["cafe", "deja", "-", "vu", "!"]


@given(st.text(max_size=40))
def test_every_text_has_tokens_and_the_same_each_time(text: str) -> None:
    tokenizer = PocketTokenizer(build_vocabulary(WORDS), context=8)
    row = tokenizer([text])[0].tolist()
    assert row[0] == START
    assert row.count(END) == 1
    assert tokenizer([text])[0].tolist() == row
    assert tokenizer.num_tokens(text) >= 2


@pytest.mark.parametrize(
    "entries", [["a"], ["[pad]", "[unknown]", "[start]", "[end]", "a", "a"], build_vocabulary(f"w{n}" for n in range(4000))]
)
def test_a_vocabulary_that_breaks_a_rule_is_refused(entries: list[str]) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        PocketTokenizer(entries, context=8)


def test_no_texts_have_no_rows(tokenizer: PocketTokenizer) -> None:
    assert tokenizer([]).shape == (0, 8)


def test_query_logits_cover_every_cell_and_nowhere() -> None:
    config = PocketConfig(**SMALL, vocabulary_size=90, context=12, text_width=32, text_layers=2)
    vision = PocketVision(config)
    seen, logits = vision.look(torch.zeros(2, 3, 32, 32))
    vectors, found = vision.pack(seen)
    assert (tuple(seen.shape), tuple(logits.shape)) == ((2, 9, 16), (2, 9, 257))
    assert (tuple(vectors.shape), tuple(found.shape)) == ((2, 24), (2, 9, 16))


@pytest.mark.parametrize("wrong", [{"image_size": 33}, {"text_width": 20}, {"num_queries": 0}])
def test_an_architecture_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        PocketConfig(**wrong)
