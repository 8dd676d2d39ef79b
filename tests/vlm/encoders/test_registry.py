"""Specs find their encoders, and nothing else is loaded on the way."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

from vlm.encoders import plugins
from vlm.encoders.base import Encoder, TowerAccess, WindowEncoder
from vlm.encoders.presets import PRESETS, find_preset
from vlm.encoders.registry import DEFAULT_ENCODER, FORMS, installed_plugins, load_encoder, reopens_by_itself
from vlm.errors import EncoderError, InputError, UnknownEncoder

REPOSITORY = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "open_clip", "transformers", "timm", "faiss", "av")

PLUGIN = """
import numpy as np
from vlm.encoders.base import Preprocessing
from vlm.types import Framing
from beside import DIM

class Own:
    name, fingerprint, dim = "own", "own-1", DIM
    preprocessing = Preprocessing(Framing(height=4, width=4))
    def __init__(self, device="nowhere"):
        self.languages = (device,)
    def encode_frames(self, frames):
        return np.full((len(frames), DIM), DIM ** -0.5, np.float32)
    def encode_text(self, texts):
        return np.full((len(texts), DIM), DIM ** -0.5, np.float32)

def own(device): return Own(device)
not_a_factory = 3
def nothing(): return object()
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("DIM = 5\n")
    (tmp_path / "own plug-in.py").write_text(PLUGIN)
    return tmp_path / "own plug-in.py"


@pytest.mark.parametrize("spec", ["", "pocketful", "openclip", "openclip:", "hf:", "python:", "clip:ViT-B-32", "siglip2-base-patch16-224"])
def test_unknown_spec_is_named_with_all_forms(spec: str) -> None:
    with pytest.raises(UnknownEncoder) as caught:
        load_encoder(spec)
    assert repr(spec) in str(caught.value)
    assert FORMS in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_unknown_spec_names_the_nearest_preset() -> None:
    with pytest.raises(UnknownEncoder, match="hf:google/siglip2-base-patch16-224"):
        load_encoder("google/siglip2-base-patch16")


def test_only_python_specs_must_be_named_again() -> None:
    assert not reopens_by_itself("python:tests/plugins/blocks.py:blocks")
    assert all(reopens_by_itself(spec) for spec in (DEFAULT_ENCODER, "hf:a/b", "openclip:local-dir:/x", "pocket"))


def test_the_default_is_a_preset() -> None:
    assert find_preset(DEFAULT_ENCODER) is PRESETS[0]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import vlm.encoders.registry",
        "from vlm.encoders.presets import PRESETS, download_plan; [download_plan(preset.spec) for preset in PRESETS]",
        "from vlm.encoders.registry import load_encoder; load_encoder('python:tests/plugins/blocks.py:blocks').encode_text(['red'])",
        "from vlm.encoders.registry import load_encoder; load_encoder('python:tests/plugins/motion.py:motion').encode_text(['red'])",
        "from vlm.encoders.registry import installed_plugins; installed_plugins()",
    ],
)
def test_no_model_library_is_loaded_for(code: str) -> None:
    assert run_python(f"import sys; {code}; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_a_file_is_loaded_by_path_with_what_lies_beside_it(own: Path) -> None:
    path_before = list(sys.path)
    spec = f"python:{own}:own"
    encoder = load_encoder(spec, device="cpu")
    assert (encoder.name, encoder.dim) == (spec, 5)
    assert encoder.encode_frames(np.zeros((2, 4, 4, 3), np.uint8)).shape == (2, 5)
    assert sys.path == path_before


def test_a_factory_that_takes_a_device_gets_it(own: Path) -> None:
    assert load_encoder(f"python:{own}:own", device="cuda:7").languages == ("cuda:7",)  # type: ignore[attr-defined]
    assert load_encoder(f"python:{own}:Own", device="cpu").languages == ("cpu",)  # type: ignore[attr-defined]


def test_a_relative_file_is_looked_for_where_you_stand(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    assert load_encoder("python:own plug-in.py:own").name == "python:own plug-in.py:own"


def test_a_module_is_loaded_by_name(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.rename(own.parent / "own_encoder_module.py")
    monkeypatch.syspath_prepend(own.parent)
    assert load_encoder("python:own_encoder_module:own").dim == 5


@pytest.mark.parametrize(
    ("end", "named"),
    [
        (":missing", "no factory 'missing'"),
        (":not_a_factory", "no factory 'not_a_factory'"),
        (":", "python:MODULE:FACTORY"),
        ("", "python:MODULE:FACTORY"),
    ],
)
def test_a_python_spec_without_a_factory_is_told(end: str, named: str, own: Path) -> None:
    with pytest.raises(UnknownEncoder, match=named):
        load_encoder(f"python:{own}{end}")


@pytest.mark.parametrize("spec", ["python:/no/such/file.py:own", "python:no_such_module_at_all:own"])
def test_a_file_or_module_that_is_not_there_is_told(spec: str) -> None:
    with pytest.raises(UnknownEncoder, match=r"no_such_module_at_all|/no/such/file"):
        load_encoder(spec)


def test_a_file_that_needs_a_missing_package_says_which(tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import a_package_that_nobody_has\n")
    with pytest.raises(EncoderError, match="a_package_that_nobody_has"):
        load_encoder(f"python:{tmp_path / 'needy.py'}:x")


def test_what_is_no_encoder_is_told_with_what_it_lacks(own: Path) -> None:
    with pytest.raises(EncoderError, match="encode_frames"):
        load_encoder(f"python:{own}:nothing")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, own: Path) -> None:
    own.rename(own.parent / "installed_plugin_module.py")
    monkeypatch.syspath_prepend(own.parent)
    points = EntryPoints(
        [
            EntryPoint("small", "installed_plugin_module:own", "vlm.encoders"),
            EntryPoint("broken", "installed_plugin_module:gone", "vlm.encoders"),
        ]
    )
    monkeypatch.setattr(plugins, "entry_points", lambda *, group: points.select(group=group))


@pytest.mark.usefixtures("installed")
def test_installed_plugins_are_listed_and_loaded_by_name() -> None:
    assert installed_plugins()["small"] == "installed_plugin_module:own"
    assert "installed_plugin_module" not in sys.modules
    encoder = load_encoder("small")
    assert (encoder.name, encoder.dim) == ("small", 5)
    assert reopens_by_itself(encoder.name)


@pytest.mark.usefixtures("installed")
def test_an_installed_plugin_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(EncoderError, match=r"'broken'.*gone"):
        load_encoder("broken")


@pytest.mark.usefixtures("installed")
def test_a_misspelt_plugin_is_told_the_nearest() -> None:
    with pytest.raises(UnknownEncoder, match="small"):
        load_encoder("smal")


def test_a_window_plugin_stays_one_behind_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    window, frame = load_encoder("python:tests/plugins/motion.py:motion"), load_encoder("python:tests/plugins/blocks.py:blocks")
    assert isinstance(window, Encoder)
    assert isinstance(window, WindowEncoder)
    assert not isinstance(frame, WindowEncoder)
    assert not isinstance(frame, TowerAccess)
