"""Puts an editor that knows the world in the place of the networks of a run."""

from pathlib import Path
from typing import Any

from latenteditor.editing.pixel_editor import PixelEditor
from latenteditor.nerf.editing_pipeline import EditingPipeline
from latenteditor.worlds.dataset import read_cameras, read_world, view_names
from latenteditor.worlds.oracle import OracleConfig, OracleEditor, Pixels


def install_oracle(pipeline: EditingPipeline, world: Path, oracle: OracleConfig) -> None:
    """Lets the oracle edit a scene that is set up and not yet edited, in what the scene is made of.

    Args:
        pipeline: Latents or images; what it is edited by is replaced.
        world: The dataset's folder.
        oracle: How far the views disagree.
    """
    session, data = pipeline.session, pipeline.datamanager
    networks = session.require_editor()
    of_images = isinstance(session.editor, PixelEditor)
    owner: Any = session.editor if of_images else pipeline
    known = dict(zip(view_names(world), read_cameras(world), strict=True))
    cameras = [known[Path(file).name] for file in data.train_dataset.image_filenames]  # type: ignore[union-attr]
    editor = OracleEditor(
        networks.denoiser,
        networks.config,
        read_world(world),
        cameras,
        Pixels() if of_images else owner.autoencoder,
        owner.autoencoder.factor,
        oracle,
    )
    session.editor = PixelEditor(editor, Pixels()) if of_images else editor
    if session.update is not None:
        session.update.editor = session.editor
