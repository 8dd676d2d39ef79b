"""Pocket's own training, at a size that takes seconds: whole, exact, and of the right parts."""

from __future__ import annotations

import json
import pickle
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.splits import is_held_out_look
from vlm.data.toybox.still_captions import captions_with_negatives, true_claim
from vlm.data.toybox.still_facts import Claim, Mention, is_at, is_related, may_hold, points, scene
from vlm.data.toybox.stills import CLEAR
from vlm.data.toybox.vocabulary import COLOURS, SHAPES, TEXTURES
from vlm.encoders.pocket import WEIGHTS, load_pocket
from vlm.encoders.pocket_model import GRID_SIDE, PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import PocketTokenizer
from vlm.errors import InputError
from vlm.train.familiar import fit_familiar
from vlm.train.log import read_log
from vlm.train.loop import _batches
from vlm.train.pocket import STAGES, ImageSource, ReadSource, TextSource, packed_frames, read_batches, seen_frames, train_pocket, vocabulary
from vlm.train.pocket_heads import CHOICES, CHOSEN, PAIRS, ROOM, Heads, as_tensors, claim_targets, looking_loss, targets
from vlm.train.pocket_modules import ImageBatch, TextBatch, direction_loss, normalised, read_ends
from vlm.train.stills_source import FrameCache, StillsConfig, StillsSource, open_cache, relit

RECIPE = """
[model]
dim = 16
image_size = 32
stem_width = 8
grid_width = 8
num_blocks = 1
num_queries = 9
query_width = 16
context = 48
text_width = 32
text_layers = 1
[data]
num_worlds = 6
image_size = 32
batch_size = 6
[image_loop]
steps = 3
[text_data]
batch_size = 4
negatives = 1
read_batches = 2
[pack_loop]
steps = 3
[text_loop]
steps = 3
[project_loop]
steps = 3
[familiar]
frames = 20
held_out_worlds = 2
allowed = 0.1
"""
CONFIG = StillsConfig(num_worlds=6, image_size=32, batch_size=6)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    open_cache(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def cache(rendered: Path) -> FrameCache:
    return open_cache(CONFIG, rendered)


@pytest.fixture(scope="module")
def source(cache: FrameCache) -> StillsSource:
    return StillsSource(CONFIG, cache, PocketTokenizer(vocabulary(), context=48))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_a_training_ends_with_an_encoder_that_can_be_opened_and_resuming_it_changes_nothing(
    recipe: Path, rendered: Path, tmp_path: Path
) -> None:
    folder = train_pocket(recipe, tmp_path, cache=rendered)
    before = load_file(folder / WEIGHTS)
    encoder = load_pocket(f"pocket:{folder}", device="cpu", precision="float32")
    assert encoder.encode_text(["a red circle"]).shape == (1, 16)
    assert encoder.unfamiliar(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1,)
    assert [len(read_log(tmp_path / stage)) for stage in STAGES] == [3, 3, 3, 3]
    again = load_file(train_pocket(recipe, tmp_path, cache=rendered, resume=True) / WEIGHTS)
    assert all(torch.equal(before[name], again[name]) for name in before)
    assert before.keys() == again.keys()


def test_a_text_that_was_read_before_is_projected_as_in_one_go(source: StillsSource) -> None:
    torch.manual_seed(0)
    text = PocketText(PocketConfig(dim=16, image_size=32, vocabulary_size=len(vocabulary()), context=48, text_width=32, text_layers=1))
    batch = TextSource(source).batch(0)
    (read,) = read_batches(text, TextSource(source), 1)
    assert read.read is not None
    with torch.no_grad():
        torch.testing.assert_close(text.project(read.read.float()), text(batch.tokens)[0], rtol=0, atol=0.05)  # read in bfloat16
        torch.testing.assert_close(text.project(read_ends(text, batch.tokens)), text(batch.tokens)[0])


def test_batches_that_were_read_come_each_once_an_epoch(source: StillsSource) -> None:
    read = ReadSource(tuple(TextSource(source).batch(index) for index in range(3)), seed=1)
    epochs = [[id(read.batch(3 * epoch + place)) for place in range(3)] for epoch in range(4)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_sizes_that_do_not_agree_are_refused(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text().replace("num_worlds = 6\nimage_size = 32", "num_worlds = 6\nimage_size = 64"))
    with pytest.raises(InputError, match=r"64.*32"):
        train_pocket(other, tmp_path / "out", cache=tmp_path)


def test_a_cache_is_rendered_once(rendered: Path, cache: FrameCache) -> None:
    stamp = next(rendered.glob("frames-*/pixels.npy")).stat().st_mtime_ns
    np.testing.assert_array_equal(open_cache(CONFIG, rendered).pixels, cache.pixels)
    assert next(rendered.glob("frames-*/pixels.npy")).stat().st_mtime_ns == stamp
    assert cache.pixels.shape == (36, 32, 32, 3)


def test_a_batch_is_the_same_whenever_it_is_asked_for(cache: FrameCache, source: StillsSource) -> None:
    first = [source.batch(index) for index in (0, 7, 3)]
    other = StillsSource(CONFIG, cache, PocketTokenizer(vocabulary(), context=48))
    for one, index in zip(first, (0, 7, 3), strict=True):
        again = other.batch(index)
        assert torch.equal(one.frames, again.frames)
        assert torch.equal(source.texts(index).tokens, other.texts(index).tokens)
        assert torch.equal(source.texts(index).excluded, other.texts(index).excluded)


def test_every_frame_comes_once_an_epoch(source: StillsSource) -> None:
    epochs = [np.concatenate([source.rows(6 * epoch + number) for number in range(6)]) for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(36))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def test_no_negative_of_a_batch_may_hold_of_its_own_frame(cache: FrameCache) -> None:
    for row in range(36):
        frame = scene(cache.stills, row)
        assert not any(
            may_hold(other.claim, frame)
            for other in captions_with_negatives(true_claim(frame, Dice(row)), frame, Dice(row), negatives=4)[1:]
        )


def test_own_pairs_are_marked_as_possible(source: StillsSource) -> None:
    """They hold, so they must be among what may; the loss takes them out again."""
    excluded = source.texts(0).excluded
    assert excluded[torch.arange(6), torch.arange(6)].all()


def test_negatives_are_false_of_their_own_frame_even_where_a_relation_alone_makes_them_so(source: StillsSource) -> None:
    for index in range(6):
        texts = source.texts(index)
        assert not texts.excluded[:, 6:].all(dim=0).any()  # each negative stands against at least one frame
        for n, claim in enumerate(texts.claims):
            assert not any(may_hold(claim, scene(texts.truth, row)) and not texts.excluded[row, n] for row in range(6))


def test_a_cache_in_another_process_is_the_same_files(cache: FrameCache) -> None:
    sent = pickle.dumps(cache)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.pixels, cache.pixels)
    assert again.events == cache.events


@pytest.mark.parametrize("kind", [ImageSource, TextSource])
def test_batches_made_by_another_process_are_the_same(kind: type[ImageSource | TextSource], source: StillsSource) -> None:
    made = run_in_process(kind(source), 4)
    own = kind(source).batch(4)
    for field in fields(own):
        one, other = (getattr(batch, field.name) for batch in (made, own))
        pairs = [(one[name], other[name]) for name in one] if isinstance(one, dict) else [(one, other)]
        assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs), field.name


def run_in_process(source: ImageSource | TextSource, index: int) -> ImageBatch | TextBatch:
    with closing(_batches(source, index, index + 1, workers=1)) as batches:
        number, batch = next(batches)
    assert number == index
    return batch  # type: ignore[no-any-return]


def test_other_light_changes_pixels_a_little_and_by_its_seed_alone() -> None:
    frames = torch.randint(60, 180, (8, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lit = [relit(frames, seed) for seed in (1, 1, 2)]
    assert torch.equal(lit[0], lit[1])
    assert not torch.equal(lit[0], lit[2])
    assert 0 < (lit[0].float() - frames.float()).abs().mean() < 40


def test_targets_are_those_of_the_truth(cache: FrameCache) -> None:
    found = targets(cache.stills)
    frame, colour = np.argwhere(cache.stills.clarity == CLEAR)[0]
    angle = cache.stills.angle[frame, colour]
    np.testing.assert_allclose(found["numbers"][frame, colour, 3:], [np.sin(angle), np.cos(angle)], rtol=1e-5)
    assert found["shape"][frame, colour] == cache.stills.shape[frame, colour]
    for row in range(36):
        assert found["count"][row] in (-1, int((cache.stills.clarity[row] == CLEAR).sum()))


def test_choices_are_those_that_a_viewer_could_tell(cache: FrameCache) -> None:
    found = targets(cache.stills)
    for frame, colour in np.argwhere(cache.stills.clarity == CLEAR):
        sight = next(sight for sight in scene(cache.stills, int(frame)).clear if sight.colour == colour)
        columns = [third for third in range(3) if is_at(6 + third, sight.x, 1.0, certain=True)]
        rows = [third for third in range(3) if is_at(3 * third, 0.0, sight.y, certain=True)]
        ways = [way for way in range(8) if points(way, sight.eighths, certain=True)]
        assert found["across"][frame, colour] == next(iter(columns), -1)
        assert found["down"][frame, colour] == next(iter(rows), -1)
        assert found["way"][frame, colour] == next(iter(ways), -1)
        assert found["size"][frame, colour] == sight.size


def test_what_is_seen_of_frames_packs_into_their_vectors(cache: FrameCache) -> None:
    torch.manual_seed(0)
    vision = PocketVision(PocketConfig(dim=16, image_size=32, stem_width=8, grid_width=8, num_blocks=1, num_queries=9, query_width=16))
    seen = seen_frames(vision, cache.pixels, seed=3)
    assert tuple(seen.shape) == (2, len(cache.pixels), 9, 16)
    expected = vision(normalised(torch.from_numpy(np.array(cache.pixels))))
    torch.testing.assert_close(vision.pack(seen[0].float())[0], expected, rtol=0, atol=0.02)
    assert not torch.equal(seen[0], seen[1])  # the other light
    packed = packed_frames(vision.pack, seen)
    torch.testing.assert_close(packed[0].float(), torch.nn.functional.normalize(expected.detach(), dim=-1), rtol=0, atol=0.02)


def test_a_look_that_training_withholds_is_no_wrong_answer(cache: FrameCache) -> None:
    found = targets(cache.stills)
    frame, colour = np.argwhere(cache.stills.clarity == CLEAR)[0]
    shape, texture = int(cache.stills.shape[frame, colour]), int(cache.stills.texture[frame, colour])
    textures = [is_held_out_look(SHAPES[shape], COLOURS[colour], name) for name in TEXTURES]
    shapes = [is_held_out_look(name, COLOURS[colour], TEXTURES[texture]) for name in SHAPES]
    assert found["withheld_textures"][frame, colour].tolist() == textures
    assert found["withheld_shapes"][frame, colour].tolist() == shapes
    assert not textures[texture]
    assert not shapes[shape]


def test_no_text_of_a_batch_names_a_look_that_training_withholds(source: StillsSource) -> None:
    mentions = [mention for index in range(6) for claim in source.texts(index).claims for mention in claim.mentions]
    whole = [mention for mention in mentions if None not in (mention.shape, mention.colour, mention.texture)]
    assert whole
    assert not any(is_held_out_look(SHAPES[m.shape], COLOURS[m.colour], TEXTURES[m.texture]) for m in whole)


def test_claims_become_labels_of_what_they_say_and_of_nothing_else() -> None:
    found = claim_targets([Claim((Mention(colour=2, shape=3, place=0, way=2),)), Claim((Mention(shape=1),), count=4, backdrop=1)])
    assert found["presence"][0].tolist() == [pytest.approx(0.4)] * 2 + [1.0] + [pytest.approx(0.4)] * 5
    assert (found["shape"][0, 2], found["texture"][0, 2]) == (3, -1)
    assert [found[name][0, 2] for name in ("across", "down", "way", "size")] == [0, 0, 2, -1]
    assert all((found[name][1] == -1).all() for name in CHOICES)
    assert (found["shape"][1] == -1).all()
    assert (found["count"].tolist(), found["backdrop"].tolist()) == ([-1, 4], [-1, 1])


def test_a_text_belongs_at_the_sum_of_the_prototypes_of_what_it_claims() -> None:
    torch.manual_seed(0)
    heads = Heads(16, 16, 9)
    claim = Claim((Mention(colour=2, shape=3, way=5), Mention(colour=6)), relation=3, count=4)
    direction = heads.directions(as_tensors(claim_targets([claim])))[0]
    rows = torch.nn.functional.normalize(heads.prototypes.weight.detach(), dim=-1)
    yellow, purple, rest = 2 * CHOSEN, 6 * CHOSEN, 8 * CHOSEN
    below = -rows[rest + 2 * PAIRS.index((2, 6)) + 1]  # the first is not above
    told = rows[yellow] + rows[yellow + 1 + 3] + rows[yellow + 22 + 5] + rows[purple] + below + rows[rest + 2 * len(PAIRS) + 4]
    torch.testing.assert_close(direction[:-1], told / (ROOM * 6**0.5))
    assert float(direction.norm()) == pytest.approx(1, abs=1e-6)
    assert float(direction[-1]) > 0


def test_two_texts_that_differ_in_one_claim_differ_before_a_frame_by_that_claim_alone() -> None:
    """One of them contradicts itself (left of what is on the left), and must not gain by it."""
    torch.manual_seed(0)
    heads = Heads(400, 16, 9)
    claims = [Claim((Mention(colour=2, place=3), Mention(colour=6, place=5)), relation=relation) for relation in (0, 1)]
    directions = heads.directions(as_tensors(claim_targets(claims)))
    frame = torch.nn.functional.pad(torch.nn.functional.normalize(torch.randn(399), dim=0), (0, 1))
    row = torch.nn.functional.normalize(heads.prototypes.weight.detach(), dim=-1)[8 * CHOSEN + 2 * PAIRS.index((2, 6))]
    expected = 2 * float(row @ frame[:-1]) / (ROOM * 7**0.5)
    assert float((directions[0] - directions[1]) @ frame) == pytest.approx(expected, abs=1e-6)


def test_heads_choose_by_the_cosine_with_prototypes(cache: FrameCache) -> None:
    torch.manual_seed(0)
    heads = Heads(16, 16, 9)
    rows = torch.nn.functional.normalize(heads.prototypes.weight.detach(), dim=-1)
    things, beside, count, backdrop = (
        part.detach() for part in heads._read(torch.nn.functional.pad(rows[2 * CHOSEN + 22 + 5], (0, 1))[None])
    )
    assert int(things[0, 2, 22:30].argmax()) == 5
    assert float(things[0, 2, 27]) == pytest.approx(30.0, rel=1e-4)
    assert (beside.shape, count.shape, backdrop.shape) == ((1, len(PAIRS), 2), (1, 9), (1, 5))


def test_a_text_that_claims_nothing_of_a_colour_has_no_direction() -> None:
    torch.manual_seed(0)
    heads = Heads(16, 16, 9)
    claims = [Claim((Mention(shape=3),)), Claim((Mention(colour=1),))]
    directions = heads.directions(as_tensors(claim_targets(claims)))
    assert directions.norm(dim=-1).gt(0).tolist() == [False, True]
    texts = torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)
    cosine = torch.nn.functional.cosine_similarity(texts[1], directions[1], dim=0)
    assert float(direction_loss(texts, directions)) == pytest.approx(1 - float(cosine), abs=1e-6)


def test_relations_are_those_of_the_centres(cache: FrameCache) -> None:
    found = targets(cache.stills)["beside"]
    for row in range(36):
        sights = {sight.colour: sight for sight in scene(cache.stills, row).clear}
        for number, (one, other) in enumerate(PAIRS):
            for axis, (before, after) in enumerate(((0, 1), (2, 3))):
                expected = -1
                if one in sights and other in sights:
                    is_before, is_after = (is_related(way, sights[one], sights[other], certain=True) for way in (before, after))
                    expected = 1 if is_before else 0 if is_after else -1
                assert found[row, number, axis] == expected


@pytest.mark.parametrize(("relation", "expected"), [(0, (0, -1)), (1, (1, -1)), (2, (-1, 0)), (3, (-1, 1))])
def test_a_claimed_relation_is_that_of_its_colours_in_their_own_order(relation: int, expected: tuple[int, int]) -> None:
    blue_to_red = Claim((Mention(colour=5), Mention(colour=0)), relation=relation)
    found = claim_targets([blue_to_red])["beside"][0]
    assert tuple(found[PAIRS.index((0, 5))]) == expected
    assert (found >= 0).sum() == 1


def test_the_text_stage_can_go_on_from_an_encoder(recipe: Path, rendered: Path, tmp_path: Path) -> None:
    first = train_pocket(recipe, tmp_path / "first", cache=rendered)
    second = train_pocket(recipe, tmp_path / "second", cache=rendered, begin_with=first)
    one, two = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert all(name.startswith(("text.", "vision.pack.")) for name in moved)
    assert any(name.startswith("text.project.") for name in moved)
    assert json.loads((second / "config.json").read_text())["trained"]["begun_with"]["steps"]["image"] == 3


def test_an_encoder_of_another_architecture_cannot_be_gone_on_with(recipe: Path, rendered: Path, tmp_path: Path) -> None:
    first = train_pocket(recipe, tmp_path / "first", cache=rendered)
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text().replace("dim = 16", "dim = 24"))
    with pytest.raises(InputError, match=r"another architecture.*'dim': 16.*'dim': 24"):
        train_pocket(other, tmp_path / "second", cache=rendered, begin_with=first)


def test_a_vector_that_shows_what_a_text_claims_costs_less(cache: FrameCache) -> None:
    torch.manual_seed(0)
    heads = Heads(16, 16, 9)
    with torch.no_grad():
        heads.prototypes.weight.fill_(0.01)
        heads.prototypes.weight[2 * CHOSEN + 1 + 3, 0] = 1.0  # the first number speaks for a yellow star
    vectors = torch.eye(16)[:2]
    claimed = as_tensors(claim_targets([Claim((Mention(colour=2, shape=3),))]))
    losses = [float(heads.of_texts(vectors[n : n + 1], claimed).detach()) for n in range(2)]
    assert losses[0] < losses[1]


def test_looking_at_the_centres_costs_nothing(cache: FrameCache) -> None:
    cells = GRID_SIDE**2
    logits = torch.zeros(36, 9, cells + 1)
    for row in range(36):
        for colour in range(8):
            x, y = (int(value[row, colour] * GRID_SIDE) for value in (cache.stills.x, cache.stills.y))
            is_clear = cache.stills.clarity[row, colour] == CLEAR
            logits[row, colour, y * GRID_SIDE + x if is_clear else cells] = 100.0
    assert float(looking_loss(logits, as_tensors(targets(cache.stills)))) == pytest.approx(0.0, abs=1e-6)


def test_the_limit_of_the_familiar_leaves_the_allowed_share_outside() -> None:
    rng = np.random.default_rng(0)
    vectors, held_out, far = (rng.normal(loc, 1, (2000, 4)).astype(np.float32) for loc in (0.0, 0.0, 9.0))
    familiar = fit_familiar(vectors, held_out, allowed=0.01)
    assert familiar.is_far(held_out).mean() == pytest.approx(0.01, abs=0.001)
    assert familiar.is_far(far).all()


def test_statistics_of_too_few_frames_are_refused() -> None:
    with pytest.raises(InputError, match="got 4 and 50"):
        fit_familiar(np.zeros((4, 4), np.float32), np.zeros((50, 4), np.float32), allowed=0.1)
