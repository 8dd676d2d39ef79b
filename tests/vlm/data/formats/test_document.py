"""The examples of docs/formats.md run, and print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vlm.data.formats

PAGE = Path(__file__).resolve().parents[4] / "docs/formats.md"
_EXAMPLE = re.compile(r"^```python\n(.*?)^```(?:\n\nprints\n\n```\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
EXAMPLES = _EXAMPLE.findall(PAGE.read_text("utf-8"))
SHARED_PARTS = {"__init__", "cues", "fields", "files", "found", "found_file", "framed", "records"}


def test_the_page_has_its_examples():
    assert [bool(printed) for _, printed in EXAMPLES] == [True, True, False]


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=["first", "own", "toybox"])
def test_an_example_prints_what_the_page_says(tmp_path: Path, code: str, printed: str):
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    assert printed in ("", run.stdout)
    assert run.stdout


def test_the_table_names_every_module():
    modules = {path.stem for path in Path(vlm.data.formats.__file__).parent.glob("*.py")} - SHARED_PARTS
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)) == modules
