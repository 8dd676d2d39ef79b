"""A dual encoder fine-tuned from video files, in each mode, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.media import COLOURS, scene_video
from tests.small_models import OpenClipKind, save_hf, save_open_clip
from tests.vlm.encoders.conftest import hf_folder, loaded, one_torch_thread, open_clip_folder  # noqa: F401
from vlm.data.formats.epic100 import Action
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.encoders.base import Window
from vlm.encoders.towers import TorchEncoder
from vlm.errors import CheckpointUnusable, EncoderMismatch, InputError
from vlm.models.clip_model import ClipModel, VideoTowerConfig, load_clip_model, numbered_blocks
from vlm.models.finetune import FinetuneConfig, Mode
from vlm.models.tower_adapter import TowerAdapterConfig
from vlm.train.__main__ import main
from vlm.train.checkpoint import load_checkpoint
from vlm.train.clip_training import SECTIONS, ClipTraining, train_clips
from vlm.train.clips_source import Clip, ClipsConfig, ClipSource, batch_of_clips, drawn_clips, may_be_true, read_clips
from vlm.train.log import read_log
from vlm.train.recipe import read_recipe, recipe_path, task_of

MODES = ("heads", "adapters", "lora", "towers")
ADAPTER = TowerAdapterConfig(d_state=4)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in three files, with words that the small models know."""
    folder = tmp_path_factory.mktemp("clips")
    words = {"red": "a red car", "green": "green grass", "blue": "blue waves", "white": "the street", "black": "a cat"}
    rows = ["path,start,end,caption"]
    for number, (first, second) in enumerate([("red", "green"), ("blue", "white"), ("black", "red")]):
        scene_video(folder / f"{number}.mp4", [(first, 1), (second, 1)], seed=number)
        rows += [f"{number}.mp4,0,1,{words[first]}", f"{number}.mp4,1,2,{words[second]}"]
    assert len(COLOURS) == len(words)
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


def encoder(folder: Callable[[OpenClipKind], Path]) -> TorchEncoder:
    return loaded(f"openclip:local-dir:{folder('clip')}")


def recipe(folder: Path, mode: str, *, data: str = "", loop: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(
        f'task = "clip"\n[adapter]\nd_state = 4\n[finetune]\nmode = "{mode}"\nlora_rank = 2\n[data]\nbatch = 4\nframes = 2\n{data}\n'
        f"[loop]\nsteps = 3\npeak_rate = 0.01\nwarmup_steps = 1\nsave_every = 2\nlog_every = 100\ngate_rate = 10.0\n{loop}\n"
    )
    return path


def model(folder: Callable[[OpenClipKind], Path], mode: Mode, residual: str = "frozen") -> ClipModel:
    torch.manual_seed(0)
    config = TowerAdapterConfig(d_state=4, residual=residual)  # type: ignore[arg-type]
    return ClipModel(encoder(folder), config, FinetuneConfig(mode=mode, lora_rank=2))


def source(captions: Path, access: TorchEncoder) -> ClipSource:
    return ClipSource(read_clips(captions), ClipsConfig(batch=4, frames=3), access.preprocessing.framing)


@pytest.mark.parametrize("mode", MODES)
def test_a_new_model_gives_clips_mean_pooling(
    mode: Mode,
    captions: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    plain = encoder(open_clip_folder)
    batch = source(captions, plain).batch(0)
    frames = torch.from_numpy(plain.encode_frames(batch.pixels.flatten(0, 1).numpy())).unflatten(0, (4, 3))
    new = model(open_clip_folder, mode).eval()
    with torch.no_grad():
        torch.testing.assert_close(new.encode_video(batch.pixels), F.normalize(frames.mean(dim=1), dim=-1), rtol=0, atol=1e-5)
        expected = torch.from_numpy(plain.encode_text(list(batch.captions)))
        torch.testing.assert_close(new.encode_text(batch.captions), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_training_from_files_lowers_the_loss_and_the_model_comes_back(
    mode: str,
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = recipe(tmp_path, mode, loop="average_decay = 0.0")
    trained = train_clips(path, tmp_path / "out", encoder(open_clip_folder), data=captions, workers=0, steps=12)
    losses = [line["loss"] for line in read_log(tmp_path / "out")]
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])
    assert "trains" in capsys.readouterr().err
    again = load_clip_model(tmp_path / "out" / "model", encoder(open_clip_folder))
    batch = source(captions, encoder(open_clip_folder)).batch(1)
    with torch.no_grad():
        assert torch.equal(again.encode_video(batch.pixels), trained.encode_video(batch.pixels))
        assert torch.equal(again.encode_text(batch.captions), trained.encode_text(batch.captions))


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_holds_what_is_trained_and_no_frozen_tower(
    mode: Mode,
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    trained = train_clips(recipe(tmp_path, mode), tmp_path / "out", encoder(open_clip_folder), data=captions, workers=0, steps=1)
    state = load_checkpoint(tmp_path / "out")
    assert state is not None
    learnt = sum(p.numel() for p in trained.parameters()) + 1  # and the scale
    assert all(p.requires_grad for p in trained.parameters())
    assert sum(part["exp_avg"].numel() for part in state["optimiser"]["state"].values()) == learnt
    if mode != "towers":
        assert sum(value.numel() for value in state["module"].values()) < 30_000


def test_a_fine_tuning_that_was_cut_short_ends_as_one_that_was_not(
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    path = recipe(tmp_path, "lora", loop="gradient_checkpointing = true")
    options = {"data": captions, "workers": 0}
    train_clips(path, tmp_path / "whole", encoder(open_clip_folder), **options)  # type: ignore[arg-type]
    train_clips(path, tmp_path / "cut", encoder(open_clip_folder), **options, steps=3)  # type: ignore[arg-type]
    (tmp_path / "cut" / "checkpoint.pt").unlink()  # the one before, of step 2, is left
    train_clips(path, tmp_path / "cut", encoder(open_clip_folder), **options, resume=True)  # type: ignore[arg-type]
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "cut" / "log.jsonl").read_text()
    names = [folder / "model" / "model.safetensors" for folder in (tmp_path / "whole", tmp_path / "cut")]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.parametrize("residual", ["frozen", "vanilla"])
def test_blocks_that_are_computed_again_give_the_same_gradients(
    residual: str,
    captions: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    """The second run of a block must see as many frames as the first."""
    module = ClipTraining(model(open_clip_folder, "lora", residual)).train()
    assert module.model.adapter is not None
    with torch.no_grad():
        for layer in module.model.adapter.layers:
            layer.gate.fill_(0.5)
    batch = source(captions, encoder(open_clip_folder)).batch(0)
    found = []
    for again in (False, True):
        module.zero_grad()
        with module.recomputing() if again else nullcontext():
            loss, _ = module(batch)
            loss.backward()
        found.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-4, atol=1e-5, msg=name)


def test_in_bfloat16_towers_learn_too_and_vectors_stay_in_float32(
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    path = recipe(tmp_path, "lora", loop='precision = "bfloat16"')
    trained = train_clips(path, tmp_path / "out", encoder(open_clip_folder), data=captions, workers=0)
    assert all(line["gradient"] > 0 for line in read_log(tmp_path / "out"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        vectors = trained.encode_text(["a dog"])
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(1))


@pytest.mark.slow
def test_two_ranks_fine_tune_as_one_does(
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    """With LoRA, adapters and blocks that are computed again: all that hooks into a tower meets what hooks into a gradient."""
    path = recipe(tmp_path, "lora", loop="gradient_checkpointing = true")
    spec = f"openclip:local-dir:{open_clip_folder('clip')}"
    train_clips(path, tmp_path / "one", loaded(spec), data=captions, workers=0)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vlm.train"]
    words = [str(path), "--out", str(tmp_path / "two"), "--data", str(captions), "--encoder", spec, "--threads", "1"]
    done = subprocess.run([*torchrun, *words], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trains ") == 1
    for one, two in zip(read_log(tmp_path / "one"), read_log(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=2e-3, abs=1e-4)  # float32, and Adam makes the signs of small gradients large
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()


def test_real_clips_of_several_containers_go_through(
    shared: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    clips = shared / "data" / "clips"
    rows = [{"path": str(clips / name), "caption": name} for name in ("intel_asl_bird.mkv", "intel_prev_people.gif")]
    rows += [{"path": str(clips / "intel_bottle.mp4"), "caption": f"bottles {start}", "start": start, "end": start + 2} for start in (3, 9)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_clips(recipe(tmp_path, "adapters"), tmp_path / "out", encoder(open_clip_folder), data=tmp_path / "mine.jsonl", workers=0)
    assert len(read_log(tmp_path / "out")) == 3


def test_early_stop_measures_captions_that_find_their_clips(
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    path = recipe(tmp_path, "heads", data='validation = "captions.csv"', loop="validate_every = 2\npatience = 1")
    train_clips(path, tmp_path / "out", encoder(open_clip_folder), data=captions, workers=0, steps=8)
    measured = [line["validation"] for line in read_log(tmp_path / "out") if "validation" in line]
    assert measured
    assert all(0 <= value <= 1 for value in measured)


def test_the_command_trains_on_a_small_clip_with_processes_that_decode(
    captions: Path,
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(recipe(tmp_path, "adapters")), "--out", str(tmp_path / "out"), "--data", str(captions), "--threads", "1"]
    assert main([*words, "--encoder", f"openclip:local-dir:{open_clip_folder('clip')}"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "model")
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


def test_the_command_says_when_the_captions_are_missing(
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(recipe(tmp_path, "heads")), "--out", str(tmp_path / "out"), "--encoder", f"openclip:local-dir:{open_clip_folder('clip')}"]
    assert main(words) == 1
    assert "--data" in capsys.readouterr().err


def test_another_encoder_and_a_damaged_model_are_refused(
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    model(open_clip_folder, "heads").save(tmp_path / "model")
    other = loaded(f"openclip:local-dir:{save_open_clip(tmp_path / 'other', seed=5)}")
    with pytest.raises(EncoderMismatch, match=r"trained on .*not on .*other"):
        load_clip_model(tmp_path / "model", other)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointUnusable, match="holds no model"):
        load_clip_model(tmp_path / "model", encoder(open_clip_folder))


def test_an_encoder_without_towers_is_refused() -> None:
    class Plain:
        name = "plain"

    with pytest.raises(InputError, match="'plain' shows no towers"):
        ClipModel(Plain(), ADAPTER, FinetuneConfig())  # type: ignore[arg-type]


def test_the_blocks_of_towers_of_both_libraries_are_found(
    tmp_path: Path,
    open_clip_folder: Callable[[OpenClipKind], Path],  # noqa: F811
) -> None:
    for access in (encoder(open_clip_folder), loaded(f"hf:{save_hf(tmp_path / 'hf')}")):
        assert len(numbered_blocks(access.text)) == 3
        assert numbered_blocks(access.vision) == list(access.vision_blocks)


@pytest.mark.parametrize("name", ["clip-finetune", "suite-mir"])
def test_the_shipped_recipe_is_complete(name: str) -> None:
    path = recipe_path(name)
    assert task_of(path) == "clip"
    made, written = read_recipe(path, SECTIONS), path.read_text()
    missing = [f"{name}.{key}" for name, config in made.items() for key in config.__dataclass_fields__ if f"\n{key} = " not in written]
    assert missing == ["tower.num_heads"]  # None, which TOML cannot say: heads of 64


def drawn_recipe(folder: Path, *, tower: str = "", mode: str = "adapters", loss: str = "max_margin") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'task = "clip"\n[adapter]\nd_state = 4\n[finetune]\nmode = "{mode}"\n[tower]\n{tower}\n[window]\nseconds = 6.0\nstride = 6.0\n'
        f'[loss]\nname = "{loss}"\n[data]\nbatch = 4\nframes = 2\nworlds = 8\nseed = 3\n'
        "[loop]\nsteps = 6\npeak_rate = 0.01\nwarmup_steps = 1\ngate_rate = 10.0\naverage_decay = 0.0\nlog_every = 100\n"
    )
    return path


VIVIM = 'kind = "vivim"\nimage_size = 32\npatch = 16\nnum_frames = 2\nwidth = 16\nnum_layers = 1\nd_state = 4'


@pytest.mark.parametrize(("tower", "mode"), [("", "adapters"), (VIVIM, "heads")])
def test_pocket_learns_from_drawn_clips_by_a_margin_and_comes_back(
    tower: str,
    mode: str,
    tmp_path: Path,
    one_torch_thread: None,  # noqa: F811
) -> None:
    path = drawn_recipe(tmp_path, tower=tower, mode=mode)
    trained = train_clips(path, tmp_path / "out", loaded("pocket"), workers=0, mixer="dbm")
    log = read_log(tmp_path / "out")
    assert all(0 < line["loss"] < 1 and "scale" not in line for line in log)
    again = load_clip_model(tmp_path / "out/model", loaded("pocket"))
    assert again.window == Window(2, 6.0, 6.0)
    mixers = {type(part).__name__ for part in again.modules()} & {"DBM", "ViM"}
    assert mixers == {"DBM"}
    clips = drawn_clips(ClipsConfig(worlds=2, seed=5), split="test")
    batch = batch_of_clips(clips, again.framing, 2, among=clips)
    with torch.no_grad():
        assert torch.equal(again.encode_video(batch.pixels), trained.encode_video(batch.pixels))
        # The towers themselves are frozen, the vectors are not those of mean pooling any more.
        assert again.encode_video(batch.pixels).shape == (2, again.text_head.out_features)


def test_a_vivim_needs_the_windows_number_of_frames_and_leaves_the_text_tower_alone() -> None:
    encoder, adapter = loaded("pocket"), TowerAdapterConfig()
    tower = VideoTowerConfig(kind="vivim", image_size=32, num_frames=2, width=16, num_layers=1)
    with pytest.raises(InputError, match=r"mode 'heads'.*got 'lora'"):
        ClipModel(encoder, adapter, FinetuneConfig(mode="lora"), tower=tower, window=Window(2, 1.0, 1.0))
    with pytest.raises(InputError, match="2 frames for 8"):
        ClipModel(encoder, adapter, FinetuneConfig(mode="heads"), tower=tower)
    model = ClipModel(encoder, adapter, FinetuneConfig(mode="heads"), tower=tower, window=Window(2, 1.0, 1.0))
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"vivim", "text_head", "video_head"}


def test_clips_of_the_same_verb_and_nouns_are_no_negatives() -> None:
    def action(verb: int, *nouns: int) -> Action:
        words = tuple(map(str, nouns))
        return Action(narration="", verb="", verb_class=verb, noun=words[0], noun_class=nouns[0], nouns=words, noun_classes=nouns)

    actions = (action(0, 1), action(0, 1), action(1, 1), action(0, 1, 2))
    clips = [Clip(Path(str(number)), f"words {number}", None, one) for number, one in enumerate(actions)]
    assert may_be_true(clips).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_narrations_of_epic_kitchens_are_read_beside_a_folder_of_videos(tmp_path: Path) -> None:
    worlds = [make_world(5, number, seconds=12.0, num_events=2) for number in range(2)]
    rendered = render_worlds(tmp_path, worlds, size=64, frame_rate=4)
    export(tmp_path, worlds, video_paths={video.world: video.path for video in rendered}, size=64)
    clips = read_clips(tmp_path / "annotations/epic100/retrieval_annotations/EPIC_100_retrieval_train.csv", tmp_path / "videos")
    assert len(clips) == sum(len(world.events) for world in worlds)
    assert {clip.path for clip in clips} == {Path(video.path) for video in rendered}
    assert all(clip.action is not None and clip.action.narration == clip.caption for clip in clips)
