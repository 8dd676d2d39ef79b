from __future__ import annotations

import os

import pytest

from vlm.app.console import emit_row, fail, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("Füße 犬 🐕.mp4", "Füße 犬 🐕.mp4"),
        ("two\nlines\ttab.mp4", r"two\nlines\ttab.mp4"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
        ("gpj\u202e4pm.exe", r"gpj\u202e4pm.exe"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("family 👨\u200d👩\u200d👧.mp4", "family 👨\u200d👩\u200d👧.mp4"),
    ],
)
def test_only_what_a_terminal_would_obey_or_hide_is_escaped(raw: str, shown: str):
    assert printable(raw) == shown


def test_a_row_stays_one_line_with_as_many_cells_as_were_given(capsys: pytest.CaptureFixture[str]):
    emit_row(1, None, "tab\there\nand there")
    assert capsys.readouterr().out == "1\t\ttab\\there\\nand there\n"


def test_an_error_is_one_line_in_which_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]):
    fail("'[bold]a[/bold].mp4' is\nno [red]video :smile:" + " word" * 40)
    assert capsys.readouterr().err == "error: '[bold]a[/bold].mp4' is no [red]video :smile:" + " word" * 40 + "\n"
