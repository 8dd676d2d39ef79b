from __future__ import annotations

import os
import socket
from pathlib import Path

from vlm.index.scan import scan


def touch(path: Path | bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


def names(found) -> list[bytes]:
    return [os.path.basename(f.path) for f in found.files]


def test_a_folder_gives_its_videos_in_order_and_counts_the_rest(tmp_path: Path):
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "._mac.mp4"):
        touch(tmp_path / name)
    (tmp_path / "sub").mkdir()
    touch(tmp_path / "sub" / "c.webm")
    found = scan(tmp_path)
    assert names(found) == [b"a.MKV", b"b.mp4", b"c.webm"]
    assert found.ignored == 1
    assert found.num_bytes == 3


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path: Path):
    touch(tmp_path / "movie.bin")
    assert names(scan(tmp_path / "movie.bin")) == [b"movie.bin"]


def test_a_folder_that_links_to_itself_ends_and_gives_each_file_once(tmp_path: Path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert names(scan(tmp_path)) == [b"a.mp4"]


def test_a_link_that_points_to_itself_is_named(tmp_path: Path):
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    found = scan(tmp_path)
    assert found.files == ()
    assert [os.path.basename(u.path) for u in found.unusable] == [b"self.mp4"]
    assert "symbolic links" in found.unusable[0].reason


def test_a_missing_path_a_pipe_and_a_socket_are_named_and_never_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        found = scan([tmp_path / "missing.mp4", tmp_path])
    assert found.files == ()
    assert {os.path.basename(u.path): u.reason for u in found.unusable} == {
        b"missing.mp4": "No such file or directory",
        b"pipe.mp4": "not a regular file",
        b"socket.mp4": "not a regular file",
    }


def test_the_same_file_named_twice_is_one(tmp_path: Path):
    touch(tmp_path / "a.mp4")
    assert names(scan([tmp_path, tmp_path / "a.mp4", tmp_path / "." / "a.mp4"])) == [b"a.mp4"]


def test_any_bytes_make_a_name(tmp_path: Path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9 'quoted'\nnew line.mp4"
    touch(odd)
    assert [f.path for f in scan(tmp_path).files] == [odd]
    assert [f.path for f in scan(odd).files] == [odd]
