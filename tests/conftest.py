import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

DATASET_SIZE = 24
"""Pixels of either side of the views of `dataset`."""


@pytest.fixture(scope="session")
def tiny_instruct_pix2pix_folder(tmp_path_factory) -> Path:
    """A small InstructPix2Pix with random weights in the real format: it runs, and its edits mean nothing."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
        StableDiffusionInstructPix2PixPipeline,
    )
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers.models.clip import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("models") / "tiny_instruct_pix2pix"
    tokenizer = byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=64,
            scaling_factor=0.25,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def byte_tokenizer(folder: Path):
    """A CLIP tokenizer that knows single bytes and has no merges."""
    from transformers.models.clip import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}))
    merges = folder / "merges.txt"
    merges.write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=32)


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory) -> Path:
    """A small CLIP with random weights in the real format, which sees 20 x 20 pixels."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("models") / "tiny_clip"
    tokenizer = byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**sizes, "image_size": 20, "patch_size": 5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_world_folder(tmp_path_factory) -> Path:
    """A built-in world in few and small photographs."""
    from latenteditor.worlds.dataset import write_dataset
    from latenteditor.worlds.world import random_world

    folder = tmp_path_factory.mktemp("world") / "dataset"
    write_dataset(folder, random_world(0), num_views=5, num_held_out=2, size=32, seed=0)
    return folder


@pytest.fixture(scope="session")
def edited_run(tmp_path_factory, tiny_world_folder, tiny_instruct_pix2pix_folder):
    """The trainer of a run of eight steps, which edited before the steps 4 and 6. To look at only."""
    from tests import runs

    output = tmp_path_factory.mktemp("edited")
    return runs.train(runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, output, steps=8))


@pytest.fixture(scope="session")
def reconstructed_run(tmp_path_factory, tiny_world_folder, tiny_instruct_pix2pix_folder):
    """The trainer of a run of latent-nerfacto of three steps. To look at only."""
    from tests import runs

    output = tmp_path_factory.mktemp("reconstructed")
    return runs.train(runs.reconstruction(tiny_world_folder, tiny_instruct_pix2pix_folder, output, steps=3))


@pytest.fixture
def warnings(caplog) -> Callable[[], list[str]]:
    """What was warned of so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture(scope="session")
def world():
    """Three solids."""
    from latenteditor.worlds.world import random_world

    return random_world(3, num_solids=3)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, world) -> Path:
    """Six training views of that world and three held-out ones."""
    from latenteditor.worlds.dataset import write_dataset

    folder = tmp_path_factory.mktemp("world") / "dataset"
    write_dataset(folder, world, num_views=6, num_held_out=3, size=DATASET_SIZE, seed=5)
    return folder
