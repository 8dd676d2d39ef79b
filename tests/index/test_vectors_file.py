from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlm.errors import BackendUnavailable
from vlm.index import sealed
from vlm.index.vectors import StaleOrDamaged, VectorIndex

KINDS = {"flat": 1000, "ivf-sq8": 100}


def rows(num_rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((num_rows, 16)).astype(np.float32)


def built(kind: str) -> VectorIndex:
    index = VectorIndex.build(np.arange(10, 310), rows(300), flat_up_to=KINDS[kind])
    assert index.kind == kind
    return index


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_saved(kind: str, tmp_path: Path) -> None:
    index = built(kind)
    index.remove(np.arange(10, 20))
    index.save(tmp_path / "v", generation=41, library_id="library a")
    loaded = VectorIndex.load(tmp_path / "v", library_id="library a", dim=16, generation=41)
    kept = ("kind", "dim", "generation", "num_vectors", "num_trained", "flat_up_to", "recall")
    assert {name: getattr(loaded, name) for name in kept} == {name: getattr(index, name) for name in kept}
    assert index.generation == 41
    for before, after in zip(index.search(rows(40, seed=1), 12), loaded.search(rows(40, seed=1), 12), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere_is_found(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "v"
    built(kind).save(path, generation=1, library_id="a")
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(0, 8 * len(whole), size=200).tolist()
    for place in [*range(8 * 32), *places, 8 * len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(StaleOrDamaged):
            VectorIndex.load(path, library_id="a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_or_too_long_is_found(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "v"
    built(kind).save(path, generation=1, library_id="a")
    whole = path.read_bytes()
    for length in [*range(40), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StaleOrDamaged):
            VectorIndex.load(path, library_id="a")
    path.write_bytes(whole + b"\0")
    with pytest.raises(StaleOrDamaged, match="checksum"):
        VectorIndex.load(path, library_id="a")


def test_a_missing_file_a_folder_and_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StaleOrDamaged, match="'none' cannot be read: No such file"):
        VectorIndex.load(tmp_path / "none", library_id="a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StaleOrDamaged, match="'folder' cannot be read"):
        VectorIndex.load(tmp_path / "folder", library_id="a")
    (tmp_path / "picture").write_bytes(bytes(range(200)))
    with pytest.raises(StaleOrDamaged, match="'picture' is empty, cut short, or of another format"):
        VectorIndex.load(tmp_path / "picture", library_id="a")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"library_id": "b"}, "library_id 'a', needed is 'b'"),
        ({"library_id": "a", "dim": 17}, "dim 16, needed is 17"),
        ({"library_id": "a", "generation": 6}, "generation 5, needed is 6"),
    ],
)
def test_a_file_made_for_something_else_is_refused(asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    built("flat").save(tmp_path / "v", generation=5, library_id="a")
    with pytest.raises(StaleOrDamaged, match=message):
        VectorIndex.load(tmp_path / "v", **asked)


def test_a_sound_file_whose_body_faiss_cannot_read_is_refused(tmp_path: Path) -> None:
    index = built("flat")
    header = {"format": 1, "library_id": "a", "dim": 16, "generation": 0, "faiss": "9.9"}
    sealed.write_sealed(tmp_path / "v", header, lambda write: write(b"from the future"))
    with pytest.raises(StaleOrDamaged, match=r"written by FAISS 9\.9"):
        VectorIndex.load(tmp_path / "v", library_id="a")
    index.save(tmp_path / "v", generation=0, library_id="a")
    assert VectorIndex.load(tmp_path / "v", library_id="a").num_vectors == 300


def test_a_missing_gpu_is_reported_before_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="cuda:99"):
        VectorIndex.load(tmp_path / "none", library_id="a", device="cuda:99")


@pytest.mark.parametrize("failing_write", [0, 1, 4])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(failing_write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v"
    VectorIndex.build(np.arange(5), rows(5)).save(path, generation=1, library_id="a")
    full_after(failing_write, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        built("flat").save(path, generation=2, library_id="a")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["v"]
    assert VectorIndex.load(path, library_id="a").generation == 1


def full_after(num_writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the sealed file take so many writes, then none."""

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.file: Any = path.open(mode)
            self.left = num_writes

        def write(self, chunk: bytes) -> int:
            if self.left == 0:
                raise OSError(28, "No space left on device")
            self.left -= 1
            return int(self.file.write(chunk))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    monkeypatch.setattr(sealed, "open", Full, raising=False)


def test_the_file_is_on_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), sync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("rename"), replace(self, target))[1])
    built("flat").save(tmp_path / "v", generation=1, library_id="a")
    assert events == ["sync", "rename", "sync"]


def test_what_a_killed_writer_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "v.partial").write_bytes(b"half a file")
    built("flat").save(tmp_path / "v", generation=1, library_id="a")
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX alone")
def test_a_path_that_is_not_utf_8_works(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 'x'\n"))
    path.mkdir()
    built("ivf-sq8").save(path / "v", generation=1, library_id="a")
    assert VectorIndex.load(path / "v", library_id="a").num_vectors == 300
