import pytest
import torch

from latenteditor.nerf.editable_views import EditableViews


def test_targets_start_as_originals_and_come_back_to_them(make_datamanager):
    data = make_datamanager()
    assert data.originals == data.targets == []
    data.load_views()
    originals = [latents.clone() for latents in data.originals]
    assert len(originals) == len(data.train_dataset)
    edited = torch.ones_like(originals[3])
    data.replace_view(3, edited)
    for index, (original, target) in enumerate(zip(data.originals, data.targets, strict=True)):
        assert torch.equal(original, originals[index])
        assert torch.equal(target, edited if index == 3 else original)
    data.reset_views()
    assert all(map(torch.equal, data.targets, originals))


def test_replacing_is_by_value(make_datamanager):
    data = make_datamanager()
    edited = torch.ones_like(data.load_views().originals[0])
    data.replace_view(0, edited)
    edited.zero_()
    assert (data.targets[0] == 1).all()


def test_latents_of_another_shape_are_refused(make_datamanager):
    data = make_datamanager()
    with pytest.raises(ValueError, match="View 0 holds latents of shape .* cannot be replaced"):
        data.replace_view(0, torch.zeros(4, 2, 2))


def test_cells_are_found_in_views_of_any_size():
    views = EditableViews([torch.arange(24.0).view(2, 3, 4), torch.arange(10.0).view(2, 5, 1)])
    cells = torch.tensor([[0, 2, 3], [1, 4, 0], [0, 0, 0]])
    assert views.at(cells).tolist() == [[11.0, 23.0], [4.0, 9.0], [0.0, 12.0]]


def test_what_is_kept_out_comes_in_latent_cells_and_goes_view_by_view():
    views = EditableViews([torch.zeros(3, 4, 8), torch.zeros(3, 2, 2)])
    assert views.kept_out_changes == 0
    views.keep_out(0, torch.tensor([[[False, True], [False, False]]]))
    assert views.kept_out_of(0).tolist() == [[False] * 4 + [True] * 4] * 2 + [[False] * 8] * 2
    assert not views.kept_out_of(1).any()
    views.keep_out(1, torch.ones(1, 2, 2, dtype=torch.bool))
    cells = torch.tensor([[0, 0, 4], [1, 1, 1], [0, 3, 7]])
    assert views.are_kept_out(cells).tolist() == [True, True, False]
    views.keep_out(0, None)
    assert views.are_kept_out(cells).tolist() == [False, True, False]
