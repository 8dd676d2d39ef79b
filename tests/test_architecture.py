"""The rules of the house, read from the source: who may import whom, and what is shipped."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the bottom to the top; imports only point down.
ROOMS = ("vlm", "index", "eval", "train", "app")
UPPER_ROOMS = ROOMS[1:]
HEAVY = ("torch", "faiss", "av", "open_clip", "transformers")

# A wall: the only files, or folders, that may import a library.
WALLS = {
    "faiss": ("index/vectors.py",),
    "av": ("vlm/video/",),
    "open_clip": ("vlm/encoders/openclip.py",),
    "transformers": ("vlm/encoders/transformers.py", "vlm/models/answerer_hf.py"),
    "peft": ("vlm/models/finetune.py",),
    "opentimelineio": ("vlm/data/formats/otio.py",),
    "nltk": ("eval/caption_libraries.py",),
    "sacrebleu": ("eval/caption_libraries.py",),
    "fastapi": ("app/server.py",),
    "starlette": ("app/server.py",),
    "uvicorn": ("app/server.py",),
}


def modules_of(room: str) -> list[Path]:
    """The room's files, relative to the root; the links inside vlm/ are not followed."""
    links = {ROOT / "vlm" / upper for upper in UPPER_ROOMS}
    found = (path for path in (ROOT / room).rglob("*.py") if not links & set(path.parents))
    return sorted(path.relative_to(ROOT) for path in found)


ALL_MODULES = [path for room in ROOMS for path in modules_of(room)]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever in it; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def imports_of(path: Path) -> list[tuple[int, str]]:
    return list(imports((ROOT / path).read_text("utf-8")))


def room_of_name(name: str) -> str | None:
    """The room that an imported name belongs to; None for other people's."""
    parts = name.split(".")
    if parts[0] != "vlm":
        return None
    if parts[1:2] == ["Library"]:
        return "index"
    return parts[1] if len(parts) > 1 and parts[1] in UPPER_ROOMS else "vlm"


def upward_imports(path: Path, found: list[tuple[int, str]]) -> list[str]:
    rank = ROOMS.index(path.parts[0])
    return [
        f"{path}:{line} imports {name}" for line, name in found if (room := room_of_name(name)) is not None and ROOMS.index(room) > rank
    ]


def broken_walls(path: Path, found: list[tuple[int, str]]) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for line, name in found
        if (doors := WALLS.get(name.split(".")[0])) is not None and not path.as_posix().startswith(doors)
    ]


def test_rooms_import_only_downwards():
    lazy = Path("vlm/__init__.py")
    assert [breach for path in ALL_MODULES if path != lazy for breach in upward_imports(path, imports_of(path))] == []


def test_the_one_upward_name_is_library_and_it_is_lazy():
    tree = ast.parse((ROOT / "vlm/__init__.py").read_text("utf-8"))
    upward = [name for _, name in imports(ast.unparse(tree)) if room_of_name(name) in UPPER_ROOMS]
    assert set(upward) == {"vlm.index.library.Library"}
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(room_of_name(name) is None for node in at_import for _, name in imports(ast.unparse(node)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("vlm/video/probe.py", "def f():\n    from vlm.index.store import Store"),
        ("index/search.py", "import vlm.app.cli"),
        ("vlm/spans.py", "from vlm import Library"),
        ("eval/report.py", "import importlib\nimportlib.import_module('vlm.train.loop')"),
    ],
)
def test_an_upward_import_would_be_seen(path: str, source: str):
    assert len(upward_imports(Path(path), list(imports(source)))) == 1


def test_libraries_stay_behind_their_walls():
    assert [breach for path in ALL_MODULES for breach in broken_walls(path, imports_of(path))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app/diagnosis.py", "def f():\n    import av"),
        ("index/search.py", "from faiss import IndexFlatIP"),
        ("vlm/encoders/openclip.py", "from transformers.utils import x"),
    ],
)
def test_a_broken_wall_would_be_seen(path: str, source: str):
    assert len(broken_walls(Path(path), list(imports(source)))) == 1


def test_imports_are_absolute_and_never_name_a_room_as_a_package():
    others = [path.relative_to(ROOT) for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    breaches = [
        f"{path}:{line} imports {name}"
        for path in [*ALL_MODULES, *others]
        for line, name in imports_of(path)
        if name.startswith(".") or name.split(".")[0] in UPPER_ROOMS
    ]
    assert breaches == []


def test_packages_in_pyproject_equal_the_tree():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {path.parent for path in ALL_MODULES}
    assert {path for path in folders if not (ROOT / path / "__init__.py").is_file()} == set()
    names = {".".join(folder.parts if folder.parts[0] == "vlm" else ("vlm", *folder.parts)) for folder in folders}
    assert sorted(declared["packages"]) == sorted(names)
    assert declared["package-dir"] == {"vlm": "vlm"} | {f"vlm.{room}": room for room in UPPER_ROOMS}


@pytest.mark.parametrize("room", UPPER_ROOMS)
def test_a_relative_link_shows_each_room_inside_the_package(room: str):
    assert os.readlink(ROOT / "vlm" / room) == os.path.join("..", room)


def loaded_after(statements: str, folder: Path) -> set[str]:
    """Which of the heavy libraries are loaded once a fresh interpreter has run ``statements``."""
    code = f"{statements}\nimport sys\nprint('\\nloaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("loaded:", 1)[1].split())


def test_importing_vlm_loads_no_heavy_library(tmp_path: Path):
    assert loaded_after("import vlm", tmp_path) == set()


def test_help_loads_no_heavy_library(tmp_path: Path):
    assert loaded_after("from vlm.app.cli import run\nassert run(['--help']) == 0", tmp_path) == set()


def test_the_facade_is_imported_without_any_heavy_library(tmp_path: Path):
    assert loaded_after("import vlm.index.library", tmp_path) == set()


def test_a_users_own_train_py_is_not_shadowed(tmp_path: Path):
    (tmp_path / "train.py").write_text("mine = True\n")
    code = "import train, vlm.train; assert train.mine, train.__file__"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_no_room_can_be_imported_as_a_top_level_package(tmp_path: Path):
    code = f"from importlib.util import find_spec; print([n for n in {UPPER_ROOMS!r} if find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree, and the wheel built from that sdist."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    # What git knows or would take, links as links: no virtual environment, no caches.
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the tree is not known")
    for name in os.fsdecode(listed.stdout).split("\0"):
        if name and (ROOT / name).is_symlink():
            (source / name).symlink_to(os.readlink(ROOT / name))
        elif name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_holds_one_package_with_all_modules(built: Path):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if not re.match(r"vlm_retrieval-[^/]+\.dist-info/", name)]
    expected = {(path if path.parts[0] == "vlm" else Path("vlm") / path).as_posix() for path in ALL_MODULES}
    assert {name for name in names if name.endswith(".py")} == expected
    assert {name.split("/")[0] for name in names} == {"vlm"}
    assert "vlm/py.typed" in names


def test_the_sdist_holds_the_tests(built: Path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"tests/conftest.py", "tests/media.py", "tests/test_architecture.py", "pyproject.toml", "LICENSE"} <= names
