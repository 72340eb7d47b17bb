"""Editing: the latent pipeline, and an iterative dataset update that edits its views as it trains."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from latenteditor.editing.editor import LatentEditor
from latenteditor.nerf.editable_scene import TrainingScene
from latenteditor.nerf.editing_pipeline import EditingConfig, EditingPipeline, load_latent_editor
from latenteditor.nerf.latent_nerfacto import LatentNerfactoPipeline, LatentNerfactoPipelineConfig


@dataclass
class LatentEditorPipelineConfig(LatentNerfactoPipelineConfig, EditingConfig):
    """A latent scene and the edit it goes through."""

    _target: type = field(default_factory=lambda: LatentEditorPipeline)


class LatentEditorPipeline(EditingPipeline, LatentNerfactoPipeline):
    """Edits the latents that a latent nerfacto is trained on."""

    config: LatentEditorPipelineConfig
    reconstruction = "latent-nerfacto"

    def load_editor(self, device: str | torch.device) -> LatentEditor:
        """Loads the InstructPix2Pix that edits."""
        return load_latent_editor(self.config.edit, device, self.autoencoder.channels)

    def make_scene(self) -> TrainingScene:
        """Makes a scene that shows the adapter's latents."""
        data, model = self.datamanager, self.latent_model
        return TrainingScene(data, lambda view: model.render_latents(data.camera(view)))

    def shown(self, views: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """Returns the decoded latents."""
        return self.autoencoder.decode(views)
