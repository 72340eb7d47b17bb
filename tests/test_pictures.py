"""Pictures: as files hold them, side by side, with labels."""

import numpy as np
import torch

from latenteditor.pictures import (
    LINE,
    OUTLINE,
    evenly_spread,
    grid,
    highlight,
    label_font,
    outlined,
    read_image,
    to_picture,
    wrap,
    write_picture,
)


def test_what_is_written_is_read_again(tmp_path):
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    write_picture(tmp_path / "new" / "a.png", to_picture(image))
    assert (read_image(tmp_path / "new" / "a.png") - image).abs().max() <= 0.5 / 255 + 1e-6


def test_every_image_of_a_grid_is_where_its_row_and_column_are():
    images = [
        [torch.full((3, 4, width), value / 10) for value, width in row] for row in (((1, 5), (2, 6)), ((3, 5), (4, 3)))
    ]
    shown = grid(images)
    assert shown.shape == (2 * (4 + 2 * LINE), 5 + 6 + 4 * LINE, 3)
    corners = shown[LINE :: 4 + 2 * LINE, [LINE, 5 + 3 * LINE], 0]
    np.testing.assert_array_equal(corners, np.array([[26, 51], [76, 102]]))
    assert (shown[:LINE] == 255).all() and (shown[:, -LINE:] == 255).all()
    assert (shown[-LINE - 1, 5 + 3 * LINE + 3 :] == 255).all(), "a smaller image stands at the left of its cell"


def test_a_mask_keeps_what_it_covers_and_darkens_the_rest():
    images, masks = torch.ones(1, 3, 2, 2), torch.eye(2, dtype=torch.bool)[None, None]
    dark = torch.tensor([[1.0, 0.3], [0.3, 1.0]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(highlight(images, masks, 0.3), dark)


def test_an_outline_is_the_inner_border_and_nothing_else():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:7, 2:7] = True
    shown = outlined(torch.zeros(3, 9, 9), mask)
    border = mask.clone()
    border[3:6, 3:6] = False
    torch.testing.assert_close(shown, torch.tensor(OUTLINE)[:, None, None] * border)


def test_views_are_spread_evenly_from_the_first_to_the_last():
    assert evenly_spread(11, 6) == [0, 2, 4, 6, 8, 10]
    assert evenly_spread(3, 6) == [0, 1, 2]


def test_words_are_wrapped_to_the_width_and_none_is_lost():
    font, line = label_font(320), "make the bear a panda " * 12
    pieces = wrap(line, font, 400)
    assert " ".join(pieces) == line.strip()
    assert all(font.getlength(piece) <= 400 for piece in pieces)
    assert len(pieces) > 2
