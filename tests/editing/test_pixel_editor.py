import pytest
import torch
from torch.nn import functional

from latenteditor.editing.dataset_update import Resumable
from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import Edit, EditConfig, Editor, LatentEditor
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.pixel_editor import ImageAutoencoder, PixelEditor
from tests.editing.denoisers import KnownEdit

PROMPT = "paint it"


class Squares:
    """Latents are the mean colors of squares of four pixels, in [-1, 1]."""

    factor = 4

    def encode(self, images):
        assert images.shape[-2] % 4 == images.shape[-1] % 4 == 0
        return 2 * functional.avg_pool2d(images, 4) - 1

    def decode(self, latents):
        return (functional.interpolate(latents, scale_factor=4, mode="nearest") + 1) / 2


def region() -> torch.Tensor:
    region = torch.zeros(1, 6, 8, dtype=torch.bool)
    region[:, 2:4, 3:6] = True
    return region


def images(seed: int, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def make_editor(mask, change: torch.Tensor) -> PixelEditor:
    config = EditConfig(PROMPT, mask=mask, guidance=Guidance(1.0, 1.0), delta_mask=DeltaMaskConfig(draws=1))
    return PixelEditor(LatentEditor(KnownEdit(change), config), Squares())


def change() -> torch.Tensor:
    return torch.tensor([0.5, -0.3, 0.2])[:, None, None] * region()


def test_protocols_are_met():
    editor = make_editor("none", change())
    assert isinstance(editor, Editor)
    assert isinstance(editor, Resumable)
    assert isinstance(editor.autoencoder, ImageAutoencoder)


def test_without_a_mask_the_image_is_the_decoded_edit_everywhere():
    bases = images(1)
    edit = make_editor("none", change()).edit(images(0), bases, [0, 1], PROMPT)
    squares = Squares()
    torch.testing.assert_close(edit.edited, squares.decode(squares.encode(bases) + change()), atol=1e-4, rtol=0)
    assert edit.score is None
    assert edit.mask.shape == (2, 1, 24, 32)
    assert edit.mask.all()


def test_with_a_mask_the_photograph_stays_outside_it_bit_for_bit():
    bases, squares = images(1), Squares()
    edited, mask, score = make_editor("per-view", change()).edit(images(0), bases, [0, 1], PROMPT)
    pixels = region().repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    assert torch.equal(mask, pixels.expand(2, 1, 24, 32))
    assert torch.equal(edited.where(~mask, 0.0), bases.where(~mask, 0.0))
    inside = squares.decode(squares.encode(bases) + change()).where(mask, 0.0)
    torch.testing.assert_close(edited.where(mask, 0.0), inside, atol=1e-4, rtol=0)
    assert score is not None
    assert score.shape == mask.shape
    assert score.where(mask, torch.inf).min() > score.where(~mask, 0.0).max()


@pytest.mark.parametrize("mask", ["none", "per-view"])
def test_an_edit_has_the_size_of_the_rendering_whatever_the_size_of_a_cell(mask):
    edit = make_editor(mask, change()).edit(images(0, 25, 31), images(1, 25, 31), [0, 1], PROMPT)
    assert edit.edited.shape == (2, 3, 25, 31)
    assert edit.mask.shape == (2, 1, 25, 31)
    assert torch.equal(edit.edited.where(~edit.mask, 0.0), images(1, 25, 31).where(~edit.mask, 0.0))


def test_resizing_moves_nothing():
    """A ramp that is encoded at a neighboring size comes back where it was."""
    ramp = torch.linspace(0.2, 0.8, 62).expand(1, 3, 50, 62)
    edit = make_editor("none", torch.zeros(1, 1, 1)).edit(ramp, ramp, [0], PROMPT)
    assert (edit.edited - ramp).abs().max() < 0.6 / 62 * 4


def test_arguments_are_not_changed():
    rendered, bases = images(0), images(1)
    make_editor("per-view", change()).edit(rendered, bases, [0, 1], PROMPT)
    assert torch.equal(rendered, images(0))
    assert torch.equal(bases, images(1))


def test_a_restored_editor_goes_on_as_the_one_that_was_saved():
    saved, restored = (make_editor("per-view", change()) for _ in range(2))
    saved.edit(images(0), images(1), [0, 1], PROMPT)
    restored.load_state_dict(saved.state_dict())
    edits = [editor.edit(images(2), images(1), [0, 1], PROMPT).edited for editor in (saved, restored)]
    assert torch.equal(*edits)


def test_an_editor_without_a_state_will_do():
    class Nothing:
        def edit(self, rendered, bases, views, instruction):
            return Edit(bases, torch.zeros_like(bases[:, :1], dtype=torch.bool), None)

    editor = PixelEditor(Nothing(), Squares())
    editor.load_state_dict(editor.state_dict())
    assert torch.equal(editor.edit(images(0), images(1), [0, 1], PROMPT).edited, images(1))
