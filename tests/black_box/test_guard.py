"""What is rejected is tried again by another seed, and the views take their turns from neighbour to neighbour."""

import pytest
import torch

from latenteditor.black_box.guard import Guard
from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.black_box.order import middle_view, order_views
from latenteditor.black_box.settings import BlackBoxConfig, folder_of_pictures, require_usable
from latenteditor.editing.black_box import Calls, NoPicture
from tests.black_box.test_registration import edited_in_a_square, photograph  # noqa: F401


class Fickle:
    """Gives nothing first, then another picture, then the edit."""

    identity, most_references = "fickle", 0

    def __init__(self) -> None:
        self.seeds = []

    def edit_picture(self, picture, instruction, seed, references):
        self.seeds.append(seed)
        if len(self.seeds) == 1:
            raise NoPicture("it was shy")
        return picture.flip(2) if len(self.seeds) == 2 else edited_in_a_square(picture)


def test_a_result_that_does_not_fit_is_rejected_counted_and_tried_again(photograph, tmp_path):  # noqa: F811
    editor = Fickle()
    edit = Guard(KeptPictures(editor, tmp_path), attempts=3, seed=0).edit(photograph, 4, "paint it")
    assert edit.picture is not None and len(set(editor.seeds)) == 3
    shy, turned = edit.rejected
    assert shy.fault == "it was shy" and shy.file is None
    assert turned.fault and turned.file.is_file()
    none = Guard(KeptPictures(Fickle(), tmp_path / "other"), attempts=2, seed=0).edit(photograph, 4, "paint it")
    assert none.picture is None and len(none.rejected) == 2


def test_more_calls_than_allowed_are_refused_before_the_first(photograph, tmp_path):  # noqa: F811
    editor = Fickle()
    guard = Guard(KeptPictures(editor, tmp_path), attempts=3, seed=0)
    guard.require_calls([photograph] * 3, "paint it", Calls(most=3))
    with pytest.raises(ValueError, match="3 photographs need a call each, at least, and 2 of 2 are left"):
        guard.require_calls([photograph] * 3, "paint it", Calls(most=2))
    assert not editor.seeds


def test_views_take_turns_from_neighbour_to_neighbour():
    positions = torch.tensor([[0.0], [4.0], [1.0], [2.0]]) * torch.ones(1, 3)
    turns = order_views(positions, first=0)
    assert [turn.view for turn in turns] == [0, 2, 3, 1]
    assert turns[-1].neighbours == (3, 2, 0)
    assert middle_view(positions) in (2, 3)


def test_settings_that_cannot_be_meant_are_refused(tmp_path, monkeypatch):
    for config, complaint in (
        (BlackBoxConfig(attempts=0), "1 or more times"),
        (BlackBoxConfig(most_calls=-1), "0 or more times"),
        (BlackBoxConfig(agreement=1.0), "between 0 and 1"),
        (BlackBoxConfig(reference=tmp_path / "none.png"), "There is no picture"),
    ):
        with pytest.raises(ValueError, match=complaint):
            require_usable(config)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of_pictures(BlackBoxConfig()) == tmp_path / "latenteditor/pictures"
