"""``vlm train``, ``attach`` and ``detach`` as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.app.running import Vlm, run_process
from vlm import Library
from vlm.app.schemas_train import JudgedOutput
from vlm.train.__main__ import main
from vlm.train.own import Judgement

TINY = """
task = "own"
[model]
mixer = "mamba"
width = 16
layers = 1
d_state = 4
[loop]
steps = 4
warmup_steps = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def rows(videos: Path) -> Path:
    """Captions of two videos and a question, beside the videos."""
    path = videos / "mine.csv"
    path.write_text(
        "path,start,end,caption,question,options,answer\nred.mp4,,,a red wall,,,\nblue then white.mp4,0,8,blue,,,\n"
        "blue then white.mp4,8,16,white,,,\ngreen.mkv,,,,which colour?,red|green,green\ngreen.mkv,,,,who?,,\n"
    )
    return path


def test_a_library_is_trained_on_rows_searches_by_the_model_and_goes_back(
    vlm: Vlm, own_library: Path, rows: Path, recipe: Path, blocks: str
):
    search = ("search", "white", "--library", own_library, "--encoder", blocks)
    before = vlm(*search).out
    done = vlm("train", recipe, "--library", own_library, "--encoder", blocks, "--data", rows, "--seed", 3, "--mixer", "vim")
    facts = dict(done.rows())
    assert facts["captions"] == "2 of spans, 1 of whole videos"
    assert facts["questions"] == "1 with options, 0 open, 1 left out without an answer"
    assert (facts["videos"], facts["steps"]) == ("3", "4")
    assert "vlm detach" in done.err
    assert not (own_library / "training").exists()

    name = facts["model"]
    assert json.loads(vlm("stats", "--library", own_library, "--json").out)["model"] == name
    assert dict(vlm("stats", "--library", own_library).rows())["trained"].startswith(name)
    assert vlm("check", "--library", own_library).out == ""
    with Library.open(own_library, encoder=blocks) as library:
        assert library.model is not None
        assert library.model.config.adapter.mixer == "vim"
    assert len(vlm(*search).rows()) == 3

    assert vlm("detach", "--library", own_library).rows() == [[name]]
    assert vlm(*search).out == before
    assert "no trained model" in vlm("detach", "--library", own_library, code=1).err


def test_a_model_in_a_folder_of_its_own_can_be_attached_again(
    vlm: Vlm, own_library: Path, rows: Path, recipe: Path, blocks: str, tmp_path: Path
):
    command = ("train", recipe, "--library", own_library, "--encoder", blocks, "--data", rows, "--out", tmp_path / "out")
    name = dict(vlm(*command).rows())["model"]
    vlm("detach", "--library", own_library)
    assert vlm("attach", tmp_path / "out/model", "--library", own_library).rows() == [[name]]
    assert "holds a checkpoint of step 4" in vlm(*command, code=1).err
    told = json.loads(vlm(*command, "--resume", "--json").out)
    assert (told["own"]["attached"], told["model"]["path"], told["run"]["path"]) == (
        name,
        str(tmp_path / "out/model"),
        str(tmp_path / "out"),
    )


def test_programs_are_told_which_abilities_the_model_is_used_for():
    judged = (Judgement("search", 12, 0.5, 0.75), Judgement("ground", 10, 0.5, 0.25))
    told = [JudgedOutput.of(one).model_dump() for one in judged]
    assert told == [
        {"ability": "search", "num_rows": 12, "plain": 0.5, "trained": 0.75, "is_used": True},
        {"ability": "ground", "num_rows": 10, "plain": 0.5, "trained": 0.25, "is_used": False},
    ]


def test_a_training_tells_programs_what_was_trained_and_where_it_lies(vlm: Vlm, own_library: Path, rows: Path, recipe: Path, blocks: str):
    told = json.loads(vlm("train", recipe, "--library", own_library, "--encoder", blocks, "--data", rows, "--json").out)
    assert (told["schema"], told["task"], told["recipe"], told["run"]) == ("vlm.train/1", "own", {"path": str(recipe)}, None)
    own = told["own"]
    assert own["library"] == {"path": str(own_library)}
    assert own["rows"] == {
        "videos": 3,
        "span_captions": 2,
        "whole_captions": 1,
        "choices": 1,
        "open_questions": 0,
        "unanswered": 1,
    }
    assert (own["num_steps"], own["judged"], own["skills"]) == (4, [], [])
    assert "is left to the encoder alone" in " ".join(own["warnings"])
    assert (Path(told["model"]["path"]) / "model.safetensors").is_file()
    assert own["attached"] == json.loads(vlm("stats", "--library", own_library, "--json").out)["model"]


def test_a_model_that_is_not_attached_leaves_the_library_and_waits(vlm: Vlm, own_library: Path, rows: Path, recipe: Path, blocks: str):
    command = ("train", recipe, "--library", own_library, "--encoder", blocks, "--data", rows, "--no-attach")
    told = json.loads(vlm(*command, "--json").out)
    training = own_library / "training"
    assert told["own"]["attached"] is None
    assert (told["model"], told["run"]) == ({"path": str(training / "model")}, {"path": str(training)})
    assert json.loads(vlm("stats", "--library", own_library, "--json").out)["model"] is None
    assert vlm("check", "--library", own_library).out == ""
    again = vlm(*command, "--resume")
    assert dict(again.rows())["model"] == str(training / "model")
    assert f"vlm attach {training / 'model'} --library {own_library}" in again.err
    ((name,),) = vlm("attach", training / "model", "--library", own_library).rows()
    assert json.loads(vlm("stats", "--library", own_library, "--json").out)["model"] == name


def test_a_wrong_row_is_named_and_the_library_stays_as_it_is(vlm: Vlm, own_library: Path, rows: Path, recipe: Path, blocks: str):
    rows.write_text("path,start,end,caption\nred.mp4,5,7,late\nnone.mp4,,,x\n")
    done = vlm("train", recipe, "--library", own_library, "--encoder", blocks, "--data", rows, code=1)
    assert re.search(r"mine\.csv:2: span \[5, 7\) s must end by the end of video 'red\.mp4', 6\.000 s", done.err)
    assert "mine.csv:3: path 'none.mp4' is no video" in done.err
    assert not (own_library / "training").exists()
    assert json.loads(vlm("stats", "--library", own_library, "--json").out)["model"] is None


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train", "own"], "name your captions and questions with --data"),
        (["train"], "name your captions and questions with --data"),
        (["train", "toybox-retrieval", "--data", "x.csv"], "learns from no rows"),
        (["train", "toybox-retrieval"], "--out"),
        (["train", "clip-finetune", "--out", "x"], "name your captions and questions with --data"),
        (["train", "clip-finetune", "--data", "x.csv"], "--out"),
        (["train", "toybox-retrieval", "--out", "x", "--no-attach"], "attaches nothing"),
        (["train", "clip-finetune", "--out", "x", "--data", "x.csv", "--data", "y.csv"], "takes one file, got 2"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(vlm: Vlm, arguments: list[str], part: str):
    assert part in " ".join(re.sub(r"[│╭╮╰╯─]", " ", vlm(*arguments, code=2).err).split())


def test_an_unknown_recipe_is_named_with_those_there_are(vlm: Vlm):
    assert re.search("'toybox-retreival'.*own, pocket, .*toybox-retrieval", vlm("train", "toybox-retreival", "--out", "x", code=1).err)


def test_a_recipe_is_run_as_the_module_runs_it(tmp_path: Path):
    path = tmp_path / "tiny.toml"
    path.write_text(
        'task = "retrieval"\n[adapter]\ndim = 384\nmixer = "mamba"\nnum_layers = 1\nd_state = 2\n[data]\npairs = 2\nbatch_pairs = 2\n'
        "phrasings = 1\n[loop]\nsteps = 2\nwarmup_steps = 1\n"
    )
    done = run_process("train", path, "--out", tmp_path / "out", "--threads", "1", "--steps", "1")
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'out' / 'model'}\n"
    assert (tmp_path / "out/model/model.safetensors").is_file()
    told = run_process("train", path, "--out", tmp_path / "out", "--threads", "1", "--steps", "1", "--resume", "--json")
    model, run = ({"path": str(tmp_path / name)} for name in ("out/model", "out"))
    assert json.loads(told.out) == {
        "schema": "vlm.train/1",
        "task": "retrieval",
        "recipe": {"path": str(path)},
        "model": model,
        "run": run,
        "own": None,
    }


def test_clips_are_trained_on_by_the_recipe_that_takes_them(tmp_path: Path):
    done = run_process("train", "clip-finetune", "--out", tmp_path / "out", "--data", tmp_path / "none.csv", "--encoder", "pocket")
    assert done.code == 1
    assert "none.csv" in done.err


def test_the_module_says_which_command_trains_on_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["own", "--out", str(tmp_path)]) == 1
    assert "vlm train --library LIBRARY --data FILE" in capsys.readouterr().err
