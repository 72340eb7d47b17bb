import numpy as np
import pytest

from latenteditor.miniature import pairs
from latenteditor.miniature.pairs import (
    INSTRUCTIONS_PER_VIEW,
    VIEWS_PER_WORLD,
    photograph_pairs,
    random_crop,
    world_pairs,
    write_pairs,
)
from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import Instruction, parse
from latenteditor.worlds.looks import LOOKS, hue_share
from latenteditor.worlds.render import FLOOR, SUPERSAMPLING, Hits, Tracer, dome_camera
from latenteditor.worlds.truth import VISIBLE_CHANGE, follow
from latenteditor.worlds.world import COLOURS, SHAPES, random_world

SIZE = 32


@pytest.fixture(scope="module")
def hits(world) -> Hits:
    return Tracer(world).trace(dome_camera(np.random.default_rng(0), 48))


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Grey, with a large red and a small blue part; and grey alone."""
    rng = np.random.default_rng(0)
    coloured, grey = rng.integers(90, 110, (2, 40, 50, 1), dtype=np.uint8).repeat(3, axis=-1)
    coloured[:, 14:30] = (200, 30, 30)
    coloured[:, 30:34] = (30, 60, 210)
    return [coloured, grey]


def touched(hits: Hits, what) -> np.ndarray:
    """The pixels of which at least one ray meets something."""
    side = hits.camera.size
    return np.isin(hits.met, what).reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).any(axis=(1, 3))


def change(hits: Hits, after: np.ndarray) -> np.ndarray:
    """The largest change of any channel, per pixel."""
    return np.abs(after - hits.shade(hits.world)).max(axis=-1)


@pytest.mark.parametrize("new", [{"colour": "cyan"}, {"material": "striped"}], ids=["colour", "material"])
@pytest.mark.parametrize("solids", [(0,), (0, 1)])
def test_a_new_colour_or_material_changes_what_the_solids_fill_and_at_most_touch(hits, solids, new):
    after, region = follow(Instruction(solids, **new), hits)
    assert np.array_equal(region, np.isin(hits.ids, [index + 1 for index in solids]))
    changed = change(hits, after)
    assert not changed[~touched(hits, solids)].any()
    assert (changed[region] > VISIBLE_CHANGE).mean() > (0.9 if "colour" in new else 0.2)


@pytest.mark.parametrize("solids", [(0,), (1,), (0, 2)])
@pytest.mark.parametrize("new", [{"removed": True}, {"shape": "cone"}, {"shape": "sphere", "colour": "cyan"}], ids=str)
def test_the_region_of_moved_surfaces_holds_all_that_visibly_changes(hits, solids, new):
    instruction = Instruction(solids, **new)
    after, region = follow(instruction, hits)
    world = instruction.apply(hits.world)
    assert np.array_equal(after, Tracer(world).trace(hits.camera).shade(world))
    changed = change(hits, after)
    assert (changed[~region] <= VISIBLE_CHANGE).all()
    own = np.isin(hits.ids, [index + 1 for index in solids])
    assert region[own].all()
    assert (changed[region & ~own] > VISIBLE_CHANGE).all()
    assert own.sum() < region.sum() < region.size / 2


def test_a_removed_solid_leaves_what_was_behind_it(hits):
    after, region = follow(Instruction((0, 1, 2), removed=True), hits)
    assert region[hits.ids > 0].all()
    hues = np.max([hue_share(after, hits.world.solids[index].colour) for index in range(3)], axis=0)
    before = np.max([hue_share(hits.shade(hits.world), solid.colour) for solid in hits.world.solids], axis=0)
    solid_floor = touched(hits, FLOOR) & (hits.ids > 0)
    assert before[hits.ids > 0].mean() > 0.5
    assert hues[solid_floor].max() < 0.1


def test_snow_falls_on_the_floor_alone(hits):
    after, region = follow(Instruction(look="snow"), hits)
    assert np.array_equal(region, hits.floor)
    changed = change(hits, after)
    assert not changed[~touched(hits, FLOOR)].any()
    assert (changed[region] > VISIBLE_CHANGE).mean() > 0.8  # Far away all floors fade into the horizon.
    assert (after >= hits.shade(hits.world) - 1e-9).all()


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_takes_the_whole_picture(hits, look):
    after, region = follow(Instruction(look=look), hits)
    assert region.all()
    assert np.array_equal(after, LOOKS[look](hits.shade(hits.world)))


def test_the_pairs_of_a_seed_are_the_same_and_those_of_another_are_not():
    views, edits = world_pairs(7, 16)
    for one, same in zip([*views, *edits], sum(world_pairs(7, 16), []), strict=True):
        assert all(map(np.array_equal, one, same))
    assert not np.array_equal(views[0].picture, world_pairs(8, 16)[0][0].picture)


def test_every_view_gets_its_edits_in_words_that_tell_what_changes():
    world, idle, followed = random_world(7), 0, 0
    views, edits = world_pairs(7, SIZE)
    assert len(views) == VIEWS_PER_WORLD
    assert [edit.view for edit in edits] == [view for view in range(len(views)) for _ in range(INSTRUCTIONS_PER_VIEW)]
    for edit in edits:
        before, after = views[edit.view].picture.astype(int), edit.picture.astype(int)
        assert before.shape == after.shape == (SIZE, SIZE, 3)
        try:
            instruction = parse(edit.instruction, world)
        except ValueError:
            idle += 1
            assert np.array_equal(before, after)
            continue
        followed += edit.region.any()
        assert not edit.region.any() or (before != after).any(axis=-1)[edit.region].mean() > 0.2
        if instruction.moves_surfaces:
            assert np.abs(before - after).max(axis=-1)[~edit.region].max(initial=0) <= 255 * VISIBLE_CHANGE + 1
    assert idle < followed


def test_views_know_the_shapes_and_colours_in_them():
    world = random_world(7)
    views, _ = world_pairs(7, SIZE)
    known = {(SHAPES.index(solid.shape) + 1, list(COLOURS).index(solid.colour) + 1) for solid in world.solids}
    seen = set()
    for view in views:
        seen |= set(zip(view.shapes.flat, view.colours.flat, strict=True))
    assert seen == known | {(0, 0)}
    solid = world.solids[0]
    share = hue_share(views[0].picture / 255, solid.colour)
    own = views[0].colours == list(COLOURS).index(solid.colour) + 1
    assert share[own].mean() > share[~own].mean() + 0.2


def test_idle_instructions_change_nothing(monkeypatch):
    monkeypatch.setattr(pairs, "IDLE_SHARE", 1.0)
    views, edits = world_pairs(7, 16)
    for edit in edits:
        assert np.array_equal(edit.picture, views[edit.view].picture)
        assert not edit.region.any()
        with pytest.raises(ValueError, match="Cannot tell"):
            parse(edit.instruction, random_world(7))


def test_photographs_are_edited_by_hue_or_as_a_whole_or_not_at_all(photographs):
    looks = {words for texts in pairs.LOOK_TEMPLATES.values() for words in texts}
    kinds = {"look": 0, "hue": 0, "idle": 0}
    for seed in range(30):
        views, edits = photograph_pairs(photographs, seed, 24)
        assert len(views) == VIEWS_PER_WORLD
        assert {edit.view for edit in edits} == set(range(len(views)))
        for view in views:
            assert not view.shapes.any()
            assert not view.colours.any()
        for edit in edits:
            view = views[edit.view].picture
            changed = np.abs(view.astype(int) - edit.picture.astype(int)).max(axis=-1)
            if edit.instruction in looks:
                kinds["look"] += 1
                assert edit.region.all()
            elif edit.region.any():
                kinds["hue"] += 1
                assert (changed[edit.region] > 10).all()
                assert (changed[~edit.region] <= 1).all()
                assert ("red" in edit.instruction) or ("blue" in edit.instruction)
            else:
                kinds["idle"] += 1
                assert not changed.any()
    assert min(kinds.values()) > 30


def test_hues_that_a_photograph_has_are_named_for_changes_and_others_for_none(photographs):
    for seed in range(20):
        views, edits = photograph_pairs(photographs[:1], seed, 24)
        for edit in edits:
            named = [colour for colour in COLOURS if f"the {colour} " in edit.instruction + " "]
            named += [colour for colour in COLOURS if f"everything {colour}" in edit.instruction]
            if named and "thing" in edit.instruction:
                share = hue_share(views[edit.view].picture / 255, named[0])
                assert np.array_equal(edit.region, share > 0.5)


def test_photograph_pairs_of_a_seed_are_the_same(photographs):
    for one, same in zip(*(sum(photograph_pairs(photographs, 3, 16), []) for _ in range(2)), strict=True):
        assert all(map(np.array_equal, one, same))


def test_crops_are_parts_of_the_photograph_and_some_are_mirrored():
    photograph = np.arange(9 * 14 * 3, dtype=np.uint16).astype(np.uint8).reshape(9, 14, 3)
    rng, mirrored, places = np.random.default_rng(0), 0, set()
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (6, 6), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    for _ in range(200):
        crop = random_crop(photograph, rng, 6)
        assert crop.shape == (6, 6, 3)
        straight = np.argwhere((windows == crop).all(axis=(2, 3, 4)))
        turned = np.argwhere((windows == crop[:, ::-1]).all(axis=(2, 3, 4)))
        assert len(straight) + len(turned) == 1
        mirrored += len(turned)
        places |= set(map(tuple, [*straight, *turned]))
    assert 60 < mirrored < 140
    assert len(places) == 4 * 9


def test_a_photograph_may_be_just_as_large_as_a_crop_and_no_smaller():
    photograph = np.zeros((8, 8, 3), dtype=np.uint8)
    assert random_crop(photograph, np.random.default_rng(0), 8).shape == (8, 8, 3)
    with pytest.raises(ValueError):
        random_crop(photograph, np.random.default_rng(0), 9)


def test_written_edits_point_to_their_views(tmp_path, photographs):
    batches = [world_pairs(1, 16), photograph_pairs(photographs, 2, 16), world_pairs(3, 16)]
    write_pairs(tmp_path / "pairs.npz", batches)
    with np.load(tmp_path / "pairs.npz") as content:
        stored = dict(content)
    expected = [(views[edit.view], edit) for views, edits in batches for edit in edits]
    assert len(stored["before"]) == 3 * VIEWS_PER_WORLD
    assert len(stored["view"]) == len(expected) == 3 * VIEWS_PER_WORLD * INSTRUCTIONS_PER_VIEW
    for index, (view, edit) in enumerate(expected):
        at = stored["view"][index]
        assert np.array_equal(stored["before"][at], view.picture)
        assert np.array_equal(stored["shapes"][at], view.shapes)
        assert np.array_equal(stored["colours"][at], view.colours)
        assert np.array_equal(stored["after"][index], edit.picture)
        assert np.array_equal(stored["region"][index], edit.region)
        assert stored["instruction"][index] == edit.instruction


def test_bytes_are_rounded():
    assert to_bytes(np.array([[[0.0, 1.0, 0.499 / 255], [0.501 / 255, 0.5, 254.6 / 255]]])).tolist() == [
        [[0, 255, 0], [1, 128, 255]]
    ]
