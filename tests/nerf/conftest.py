import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.nerf.datamanager import LatentDataManager, LatentDataManagerConfig
from latenteditor.nerf.latent_model import LatentNerfactoModelConfig
from latenteditor.nerf.latent_nerfacto import LatentNerfactoPipeline, LatentNerfactoPipelineConfig
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder

NUM_VIEWS = 12


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory) -> Path:
    """A small autoencoder with random weights, whose cells are 4 pixels wide."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    folder = tmp_path_factory.mktemp("autoencoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def autoencoder(autoencoder_folder) -> Autoencoder:
    return load_autoencoder(str(autoencoder_folder), "cpu")


@pytest.fixture(scope="session")
def capture_folder(tmp_path_factory) -> Path:
    """Twelve small photographs on a circle, every third of another size, in nerfstudio's format."""
    folder = tmp_path_factory.mktemp("capture")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    frames = []
    for index in range(NUM_VIEWS):
        width, height = (60, 45) if index % 3 else (40, 50)
        smooth = generator.random((5, 6, 3))
        image = Image.fromarray((255 * smooth).astype("uint8")).resize((width, height))
        image.save(folder / "images" / f"{index:02d}.png")
        angle = 2 * np.pi * index / NUM_VIEWS
        cosine, sine = np.cos(angle), np.sin(angle)
        frames.append(
            {
                "file_path": f"images/{index:02d}.png",
                "w": width,
                "h": height,
                "fl_x": 50.0,
                "fl_y": 52.0,
                "cx": width / 2 + 1.5,
                "cy": height / 2 - 0.5,
                "k1": 0.01,
                "transform_matrix": [
                    [cosine, 0, sine, 2 * sine],
                    [0, 1, 0, 0],
                    [-sine, 0, cosine, 2 * cosine],
                    [0, 0, 0, 1],
                ],
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "OPENCV", "frames": frames}))
    return folder


def data_config(folder: Path, **options) -> LatentDataManagerConfig:
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    return LatentDataManagerConfig(dataparser=NerfstudioDataParserConfig(data=folder), **({"image_size": 32} | options))


@pytest.fixture
def make_datamanager(capture_folder, autoencoder):
    def make(folder: Path = capture_folder, **options) -> LatentDataManager:
        return data_config(folder, **options).setup(device="cpu", test_mode="val", autoencoder=autoencoder)

    return make


@pytest.fixture
def make_pipeline(capture_folder, autoencoder_folder):
    def make(**options) -> LatentNerfactoPipeline:
        torch.manual_seed(0)
        model = {
            "num_levels": 2,
            "max_res": 24,
            "hidden_dim": 16,
            "adapter_width": 16,
            "adapter_heads": 2,
        } | options
        data = {key: model.pop(key) for key in list(model) if key in ("train_num_rays_per_batch", "image_size")}
        autoencoder = model.pop("autoencoder", autoencoder_folder)
        config = LatentNerfactoPipelineConfig(
            datamanager=data_config(capture_folder, **data),
            model=LatentNerfactoModelConfig(**model),
            autoencoder=str(autoencoder),
        )
        return config.setup(device="cpu", test_mode="val")

    return make


@pytest.fixture
def ready_pipeline(make_pipeline) -> LatentNerfactoPipeline:
    """A pipeline whose model knows the latents of its data, untrained."""
    pipeline = make_pipeline()
    pipeline.latent_model.set_statistics(pipeline.datamanager.statistics())
    return pipeline.eval()
