from collections import Counter

import numpy as np
import pytest
import torch

from latenteditor.miniature.families import FAMILY_EDITS, FAMILY_SHARES, family, load_families
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.world import SHAPES

SIZE = 24


@pytest.fixture(scope="module", params=[True, False], ids=["close", "wide"])
def families(request):
    """A few families by their seeds."""
    return [family(seed, SIZE, request.param) for seed in range(4)]


def test_every_instruction_leads_from_its_view_to_its_target(families):
    """What the words ask of the first world, as a person's prompt is read, is the second world."""
    for relatives, relations in families:
        for edit in relations:
            before, after = relatives[edit.before].world, relatives[edit.after].world
            if edit.before == edit.after:
                with pytest.raises(ValueError, match="Cannot tell"):
                    parse(edit.instruction, before)
            else:
                assert parse(edit.instruction, before).apply(before) == after


def test_outside_an_edits_region_nothing_changes_but_pixels_that_a_solid_half_fills(families):
    for relatives, relations in families:
        for edit in relations:
            before, after = (relatives[index].picture.astype(int) for index in (edit.before, edit.after))
            assert np.abs(after - before)[~edit.region].mean() < 2


def test_a_family_has_every_shape_and_the_solid_taken_away(families):
    for relatives, _ in families:
        worlds = [relative.world for relative in relatives]
        most = max(len(world.solids) for world in worlds)
        assert Counter(len(world.solids) for world in worlds)[most - 1] == 1
        (varying,) = {
            index for index in range(most) if len({world.solids[index].shape for world in worlds[:5]}) == len(SHAPES)
        }
        assert len({world.solids[varying] for world in worlds if len(world.solids) == most}) == len(worlds) - 1


def test_nothing_that_is_named_could_be_another_solid(families):
    """Else the same words would ask for two things."""
    for relatives, relations in families:
        for edit in relations:
            shapes = [solid.shape for solid in relatives[edit.before].world.solids]
            assert len(set(shapes)) == len(shapes)


def test_kinds_are_as_frequent_as_their_shares():
    words = [edit.instruction for seed in range(40) for edit in family(seed, 16, True)[1]]
    removals = np.mean([bool({"remove", "delete", "erase", "away"} & set(text.split())) for text in words])
    assert removals == pytest.approx(FAMILY_SHARES["removal"] + FAMILY_SHARES["idle"] / 5, abs=0.03)


def test_families_are_made_once_and_their_views_are_the_targets(tmp_path, monkeypatch):
    monkeypatch.setattr("latenteditor.miniature.families.FAMILIES_PER_FILE", 2)
    pairs = load_families(tmp_path, range(10, 13), SIZE, True)
    assert pairs.after is pairs.before
    assert len(pairs.view) == len(pairs.target) == len(pairs.region) == len(pairs.instructions) == 3 * FAMILY_EDITS
    changed = (pairs.after[pairs.target].int() - pairs.before[pairs.view].int()).abs().amax(dim=-1).float()
    assert changed[pairs.region == 1].mean() > 20 * changed[pairs.region == 0].mean()
    monkeypatch.setattr("latenteditor.miniature.families.write_families", None)
    again = load_families(tmp_path, range(10, 13), SIZE, True)
    assert all(map(torch.equal, pairs[:7], again[:7]))
