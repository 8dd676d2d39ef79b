"""A trained model taken into a library: search goes through it, it can be taken out again, and no moment of dying in between does harm."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.media import scene_video
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.errors import BadVectors, EncoderMismatch, InputError, LibraryReadOnly, QueryError, WeightsUnavailable
from vlm.index import segments
from vlm.index.model import write_skills
from vlm.models import shipped
from vlm.models.adapter import AdapterConfig
from vlm.models.folder import WEIGHTS
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader


def save_model(
    folder: Path,
    *,
    gate: float = 2.0,
    fingerprint: str = "blocks-1",
    seed: int = 0,
    dim: int = 32,
    answers: tuple[str, ...] = (),
    shows: bool | None = None,
) -> Path:
    """An untrained model for ``blocks`` whose gates are open, so that its vectors are not those of the encoder.

    ``shows``: whether it says of every video that it shows what is asked; None leaves that to chance.
    """
    torch.manual_seed(seed)
    adapter = AdapterConfig(dim=dim, mixer="mamba", num_layers=1, d_state=4)
    interaction = InteractionConfig(text_dim=dim, video_dim=dim, width=8, num_layers=1, d_state=4) if answers else None
    config = VideoTextConfig(encoder="python:blocks", fingerprint=fingerprint, adapter=adapter, interaction=interaction, answers=answers)
    model = VideoTextModel(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("gate"):
                value.fill_(gate)
        if shows is not None:
            last = model.cross().abstain.mlp[-1]
            last.weight.zero_()
            last.bias.fill_(4.0 if shows else -4.0)
    return model.save_pretrained(folder)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return save_model(tmp_path / "trained")


def stored(library: Library) -> dict[tuple[int, float, float], np.ndarray]:
    """The vector of each segment, by video and span."""
    store = library._store
    rows = store.query("SELECT video_id, start, end, vector FROM segments")
    return {row[:3]: np.frombuffer(row[3], "<f2").astype(np.float32) for row in rows}


def expected(library: Library, reader: Reader) -> dict[tuple[int, float, float], np.ndarray]:
    """The same by the reader, a segment at a time."""
    found = {}
    for video in library.videos():
        features = library.features(video.video_id)
        for one in segments.cut(features):
            found[video.video_id, one.span.start, one.span.end] = reader.embed_video(features.part(one.first, one.last))
    return found


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key, vector in one.items():
        np.testing.assert_allclose(vector, other[key], atol=2e-3)  # the store keeps half precision


def test_segments_and_queries_go_through_the_attached_model(library: Library, trained: Path, blocks: str):
    before = stored(library)
    name = library.attach(trained)
    reader = library.reader()
    after = stored(library)
    assert_same(after, expected(library, reader))
    assert max(np.abs(after[key] - before[key]).max() for key in before) > 0.02
    hits = library.search("white", top_k=20, group_by="segment")
    query = reader.embed_texts(["white"])[0]
    for hit in hits:
        assert hit.score == pytest.approx(float(query @ after[hit.video_id, hit.span.start, hit.span.end]), abs=2e-3)
    assert library.stats().model == name
    assert name.startswith("trained-")
    assert library.verify() == []


def test_a_model_that_has_learnt_nothing_changes_no_hit(library: Library, tmp_path: Path):
    before = library.search("white", top_k=20)
    library.attach(save_model(tmp_path / "new", gate=0.0))
    after = library.search("white", top_k=20)
    assert [(hit.video_id, hit.span) for hit in after] == [(hit.video_id, hit.span) for hit in before]
    assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=2e-3)


def test_videos_that_are_added_later_are_pooled_by_the_model(library: Library, trained: Path, tmp_path: Path, blocks: str):
    library.attach(trained)
    shutil.rmtree(trained)  # the library has a copy of its own
    scene_video(tmp_path / "new.mp4", [("black", 6), ("red", 6)])
    with Library.open(library.path, encoder=blocks) as again:
        again.add(tmp_path / "new.mp4")
        assert len(again.videos()) == 4
        assert_same(stored(again), expected(again, again.reader()))


def test_a_new_library_takes_in_the_model_that_comes_with_its_encoder(tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    save_model(tmp_path / "shipped" / "other", fingerprint="of another encoder")
    save_model(tmp_path / "shipped" / "blocks")
    scene_video(tmp_path / "new.mp4", [("black", 6), ("red", 6)])
    with Library.open(tmp_path / "lib", encoder=blocks) as made:
        made.add(tmp_path / "new.mp4")
        assert made.stats().model is not None
        assert made.stats().model.startswith("blocks-")
        assert_same(stored(made), expected(made, made.reader()))
        made.detach()
        made.add(tmp_path / "new.mp4", retry=True)  # what was taken out stays out
        assert made.stats().model is None


def test_a_file_without_a_library_is_read_by_the_model_that_a_new_library_would_have(
    tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    scene_video(tmp_path / "new.mp4", [("black", 6), ("red", 6)])
    with Library.open(tmp_path / "none", encoder=blocks) as empty:
        (plain,) = empty.ground(["red"], tmp_path / "new.mp4")
    save_model(tmp_path / "shipped" / "blocks", answers=("yes", "no"))
    with Library.open(tmp_path / "empty", encoder=blocks) as empty:
        (told,) = empty.ground(["red"], tmp_path / "new.mp4")
    with Library.open(tmp_path / "lib", encoder=blocks) as made:
        made.add(tmp_path / "new.mp4")
        (same,) = made.ground(["red"], 1)
        made.detach()
        (detached,) = made.ground(["red"], 1)
    assert plain.presence is None
    assert told.presence == pytest.approx(same.presence, abs=1e-3)
    np.testing.assert_allclose(told.curve, same.curve, atol=2e-2)  # a library keeps its rows in float16
    assert detached.presence is None


def test_rebuilding_keeps_the_model(library: Library, trained: Path):
    library.attach(trained)
    before = stored(library)
    library.rebuild()
    assert_same(stored(library), before)


def test_detaching_brings_back_what_was(library: Library, trained: Path):
    before, hits = stored(library), library.search("white", top_k=5)
    name = library.attach(trained)
    assert library.detach() == name
    after = stored(library)
    assert all((after[key] == before[key]).all() for key in before)
    assert [(h.video_id, h.score) for h in library.search("white", top_k=5)] == [(h.video_id, h.score) for h in hits]
    assert library.model is None
    assert isinstance(library.reader(), PlainReader)
    assert list((library.path / "models").iterdir()) == []
    assert library.detach() is None


def test_a_second_model_takes_the_place_of_the_first(library: Library, trained: Path, tmp_path: Path):
    library.attach(trained)
    second = library.attach(save_model(tmp_path / "second", seed=5))
    assert [path.name for path in (library.path / "models").iterdir()] == [second]
    assert_same(stored(library), expected(library, library.reader()))


def scores(library: Library) -> dict[int, float]:
    return {hit.video_id: hit.score for hit in library.search("white", top_k=5)}


def test_a_library_that_is_open_elsewhere_follows(library: Library, trained: Path, blocks: str):
    with Library.open(library.path, encoder=blocks, read_only=True) as other:
        plain = scores(other)
        library.attach(trained)
        assert scores(other) == pytest.approx(scores(library))
        assert scores(other) != pytest.approx(plain)
        library.detach()
        assert scores(other) == pytest.approx(plain)


def test_each_question_goes_to_whom_was_found_better(library: Library, tmp_path: Path, blocks: str):
    folder = save_model(tmp_path / "whole", answers=("yes", "no"))
    features = library.features(library.videos()[0].video_id)
    plain, trained = PlainReader(load_encoder(blocks)), TrainedReader(load_encoder(blocks), VideoTextModel.from_pretrained(folder))
    library.attach(folder)
    assert isinstance(library.reader(), TrainedReader)

    write_skills(folder, ["ground"])
    library.attach(folder)
    reader = library.reader()
    assert reader.ground(["red"], features)[0].presence == trained.ground(["red"], features)[0].presence
    assert reader.answer("is it?", features, options=("a", "b")) == plain.answer("is it?", features, options=("a", "b"))
    with pytest.raises(QueryError, match="vlm train"):
        reader.answer("is it?", features)

    write_skills(folder, ["answer"])
    library.attach(folder)
    reader = library.reader()
    assert reader.ground(["red"], features)[0].presence is None
    assert reader.answer("is it?", features) == trained.answer("is it?", features)
    with Library.open(library.path, encoder=blocks) as again:
        assert again.reader().answer("is it?", features) == trained.answer("is it?", features)


def test_skills_that_are_none_are_refused(library: Library, tmp_path: Path):
    folder = save_model(tmp_path / "whole", answers=("yes", "no"))
    write_skills(folder, ["grond"])
    with pytest.raises(WeightsUnavailable, match=r"skills\.json.*ground, choose, answer.*grond"):
        library.attach(folder)


def damage_missing(folder: Path) -> None:
    shutil.rmtree(folder)


def damage_flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def damage_other(folder: Path) -> None:
    shutil.rmtree(folder)
    save_model(folder, seed=7)


@pytest.mark.parametrize("damage", [damage_missing, damage_flip, damage_other])
def test_a_model_that_is_missing_or_damaged_is_refused_with_the_ways_out(library: Library, trained: Path, blocks: str, damage):
    name = library.attach(trained)
    damage(library.path / "models" / name)
    with Library.open(library.path, encoder=blocks) as again:
        with pytest.raises(WeightsUnavailable, match=rf"{name}.*missing or damaged.*vlm train.*vlm attach.*vlm detach --library"):
            again.search("white")
        assert any(name in problem for problem in again.verify())
        again.attach(trained)
        assert again.verify() == []
        damage(again.path / "models" / name)
        assert again.detach() == name
        assert again.verify() == []
        assert again.search("white", top_k=1)


def test_a_model_of_another_encoder_is_refused_with_both_names(library: Library, tmp_path: Path):
    before = stored(library)
    with pytest.raises(EncoderMismatch, match=r"python:blocks.*photo-9.*blocks\.py.*blocks-1.*vlm train"):
        library.attach(save_model(tmp_path / "other", fingerprint="photo-9"))
    with pytest.raises(EncoderMismatch, match="16 wide"):
        library.attach(save_model(tmp_path / "narrow", dim=16))
    assert_same(stored(library), before)
    assert library.stats().model is None


def test_a_model_whose_vectors_are_not_finite_is_refused(library: Library, tmp_path: Path):
    folder = save_model(tmp_path / "broken")
    model = VideoTextModel.from_pretrained(folder)
    with torch.no_grad():
        model.adapter.layers[0].norm.weight.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(BadVectors, match="train it again"):
        library.attach(folder)
    assert library.stats().model is None


def test_what_is_no_model_is_refused(library: Library, tmp_path: Path, blocks: str):
    with pytest.raises(InputError, match="nowhere"):
        library.attach(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsUnavailable, match=r"config\.json"):
        library.attach(tmp_path / "empty")
    with (
        Library.open(tmp_path / "fresh", encoder=blocks) as fresh,
        pytest.raises(InputError, match="holds no video yet"),
    ):
        fresh.attach(save_model(tmp_path / "model"))
    with Library.open(library.path, read_only=True) as reading, pytest.raises(LibraryReadOnly):
        reading.attach(tmp_path / "model")


DIES = """
import os, signal, sys
from pathlib import Path
from vlm import Library
from vlm.index import model

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def later(done, total):
    if done == 2:
        die()

folder, source, spec, moment = sys.argv[1:]
if moment == "copying":
    model._copy_to_disk = lambda source, target: (target.write_bytes(b"half"), die())
elif moment == "copied":
    model.catalog.cut_all = die
elif moment == "committed":
    model.ModelSlot.sweep = die
with Library.open(folder, encoder=spec) as library:
    told = later if moment == "pooling" else None
    library.attach(source, on_progress=told) if source else library.detach(on_progress=told)
"""


@pytest.mark.parametrize("first", [False, True], ids=["none before", "another before"])
@pytest.mark.parametrize("moment", ["copying", "copied", "pooling", "committed"])
def test_killed_while_a_model_is_attached_the_library_works(
    library: Library, trained: Path, tmp_path: Path, blocks: str, moment: str, first: bool
):
    old = library.attach(save_model(tmp_path / "old", seed=9)) if first else None
    library.close()
    done = subprocess.run([sys.executable, "-c", DIES, library.path, trained, blocks, moment], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Library.open(library.path, encoder=blocks) as again:
        name = again.stats().model
        assert name == (old if moment != "committed" else f"trained-{name.rsplit('-', 1)[1]}")
        assert again.verify() == []
        assert_same(stored(again), expected(again, again.reader()))
        assert len(again.search("white", top_k=9)) == 3
        attached = again.attach(trained)
        assert [path.name for path in (again.path / "models").iterdir()] == [attached]
        assert_same(stored(again), expected(again, again.reader()))


def test_killed_while_a_model_is_detached_the_library_keeps_it(library: Library, trained: Path, blocks: str):
    name = library.attach(trained)
    library.close()
    done = subprocess.run([sys.executable, "-c", DIES, library.path, "", blocks, "pooling"], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Library.open(library.path, encoder=blocks) as again:
        assert again.stats().model == name
        assert_same(stored(again), expected(again, again.reader()))


def test_the_loaded_encoder_is_the_one_that_reads(library: Library, trained: Path, blocks: str):
    library.attach(trained)
    direct = TrainedReader(load_encoder(blocks), VideoTextModel.from_pretrained(trained))
    np.testing.assert_allclose(library.reader().embed_texts(["a red car"]), direct.embed_texts(["a red car"]), atol=1e-6)
