import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.networks.clip import load_clip, read_preprocessing

SHAPES = [(60, 80), (81, 50), (20, 20), (31, 32)]


def some_image(height: int, width: int) -> Image.Image:
    # Away from 0 and 255, where transformers clips between two passes of resizing.
    pixels = np.random.default_rng(height).integers(40, 216, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0)[None].float() / 255


@pytest.fixture
def copied(tiny_clip_folder, tmp_path) -> Path:
    """A CLIP of one's own, to damage."""
    return Path(shutil.copytree(tiny_clip_folder, tmp_path / "clip"))


def rewrite(file: Path, **changes) -> None:
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_images_are_preprocessed_as_transformers_does(tiny_clip_folder, height, width):
    from transformers import CLIPProcessor

    image = some_image(height, width)
    expected = CLIPProcessor.from_pretrained(tiny_clip_folder)(images=image, return_tensors="pt").pixel_values
    found = load_clip(str(tiny_clip_folder), "cpu").preprocessing.apply(as_tensor(image))
    # transformers rounds to 8 bits after resizing: half a step and a little of its own arithmetic.
    torch.testing.assert_close(found, expected, atol=1.1 / 255 / 0.26, rtol=0)
    assert (found - expected).abs().mean() < 0.3 / 255 / 0.26


@torch.no_grad()
def test_embeddings_are_those_of_transformers_at_unit_length(tiny_clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    texts, image = ["a bear", "a panda bear in a park"], some_image(60, 80)
    inputs = CLIPProcessor.from_pretrained(tiny_clip_folder)(
        text=texts, images=image, return_tensors="pt", padding=True
    )
    expected = CLIPModel.from_pretrained(tiny_clip_folder)(**inputs)
    clip = load_clip(str(tiny_clip_folder), "cpu")
    torch.testing.assert_close(clip.embed_texts(texts), expected.text_embeds)
    # The difference of 8 bits again.
    torch.testing.assert_close(clip.embed_images(as_tensor(image)), expected.image_embeds, atol=5e-3, rtol=0)
    torch.testing.assert_close(clip.embed_images(torch.rand(3, 3, 40, 50)).norm(dim=1), torch.ones(3))


def test_a_batch_has_the_embeddings_of_its_members(tiny_clip_folder):
    clip = load_clip(str(tiny_clip_folder), "cpu")
    images, texts = torch.rand(3, 3, 40, 50), ["a bear", "a much longer caption", "x"]
    alone = torch.cat([clip.embed_images(image[None]) for image in images])
    torch.testing.assert_close(clip.embed_images(images), alone, atol=1e-5, rtol=0)
    alone = torch.cat([clip.embed_texts([text]) for text in texts])
    torch.testing.assert_close(clip.embed_texts(texts), alone, atol=1e-5, rtol=0)


def test_nothing_of_it_trains(tiny_clip_folder):
    clip = load_clip(str(tiny_clip_folder), "cpu")
    assert not any(parameter.requires_grad for parameter in clip._network.parameters())
    assert not clip._network.training


def test_old_configs_with_plain_numbers_mean_the_same(tiny_clip_folder, copied):
    rewrite(copied / "preprocessor_config.json", size=20, crop_size=20)
    assert read_preprocessing(str(copied)) == read_preprocessing(str(tiny_clip_folder))


def test_the_config_that_a_whole_processor_saves_is_read_too(tiny_clip_folder, copied):
    from transformers import CLIPProcessor

    CLIPProcessor.from_pretrained(tiny_clip_folder).save_pretrained(copied)
    (copied / "preprocessor_config.json").unlink()
    if not (copied / "processor_config.json").is_file():
        pytest.skip("this release of transformers writes preprocessor_config.json alone")
    assert read_preprocessing(str(copied)) == read_preprocessing(str(tiny_clip_folder))


def test_steps_that_are_switched_off_are_left_out(copied):
    rewrite(copied / "preprocessor_config.json", do_resize=False, do_center_crop=False, do_normalize=False)
    images = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(read_preprocessing(str(copied)).apply(images), images)


def test_an_exact_size_needs_no_aspect_ratio(copied):
    rewrite(copied / "preprocessor_config.json", size={"height": 24, "width": 30})
    assert read_preprocessing(str(copied)).apply(torch.rand(1, 3, 50, 40)).shape == (1, 3, 20, 20)


def test_a_crop_larger_than_the_image_is_refused(copied):
    rewrite(copied / "preprocessor_config.json", crop_size=40)
    with pytest.raises(ValueError, match="Cannot crop 40x40 pixels for CLIP out of 25x20"):
        read_preprocessing(str(copied)).apply(torch.rand(1, 3, 40, 50))


def test_a_caption_longer_than_clip_reads_is_refused(tiny_clip_folder):
    with pytest.raises(ValueError, match="has 42 tokens, start and end marks included, and CLIP reads 32: shorten"):
        load_clip(str(tiny_clip_folder), "cpu").embed_texts(["a bear", "x" * 40])


def test_a_folder_without_a_clip_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"There is no CLIP in .* but no config\.json: pass a folder or hub id"):
        load_clip(str(tmp_path), "cpu")


def test_another_model_is_refused(copied):
    rewrite(copied / "config.json", model_type="bert")
    with pytest.raises(ValueError, match="There is no CLIP in .* but a model of type 'bert'"):
        load_clip(str(copied), "cpu")


def test_a_clip_without_a_preprocessor_config_is_refused(copied):
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config\.json"):
        load_clip(str(copied), "cpu")


@pytest.mark.parametrize("changes", [{"resample": 0}, {"size": None}, {"image_mean": None}, {"size": "large"}])
def test_a_preprocessor_config_that_cannot_be_followed_is_refused(copied, changes):
    rewrite(copied / "preprocessor_config.json", **changes)
    with pytest.raises(ValueError, match=r"The preprocessor_config\.json of .* cannot be followed"):
        load_clip(str(copied), "cpu")


def test_missing_weights_are_refused(copied):
    for file in copied.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ValueError, match=r"The CLIP .* could not be read .*: download the model again") as answer:
        load_clip(str(copied), "cpu")
    assert "\n" not in str(answer.value)
