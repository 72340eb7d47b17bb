"""Editing: the latent pipeline, and an iterative dataset update that edits its views as it trains.

Beside the scene that is edited lies the scene as it was, frozen, and a relevance head for each layer. Whoever looks can
see all of them, or have the edit shown where it belongs and the unedited scene everywhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components import renderers
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from latenteditor.editing.delta_mask import DeltaMaskConfig, relevance_mask
from latenteditor.editing.editor import LatentEditor
from latenteditor.editing.layers import LayerStack
from latenteditor.nerf.datamanager import LatentDataManager
from latenteditor.nerf.edit_costs import EditCosts
from latenteditor.nerf.edit_session import EditingConfig, EditorLoader
from latenteditor.nerf.editable_scene import SceneView, TrainingScene
from latenteditor.nerf.editable_views import EditableViews
from latenteditor.nerf.editing_pipeline import EditingPipeline, load_latent_editor
from latenteditor.nerf.latent_model import LatentNerfactoModel, LatentNerfactoModelConfig
from latenteditor.nerf.latent_nerfacto import LatentNerfactoPipeline, LatentNerfactoPipelineConfig
from latenteditor.nerf.relevance import RelevanceConfig, RelevanceHead, Samples, fit_relevance
from latenteditor.networks.autoencoder import Autoencoder

ORIGINAL = "_model.original."
RELEVANCE = "_model.relevance."
OVERLAY_COLOR = (1.0, 0.2, 0.6)
"""What the region is tinted with."""


@dataclass
class LatentEditorModelConfig(LatentNerfactoModelConfig):
    """A latent nerfacto with what an edit keeps beside it."""

    _target: type = field(default_factory=lambda: LatentEditorModel)
    composite: bool = False
    """Shows the unedited scene outside the region of the edit, so that what does not belong to the edit is as it was to
    the last bit. Needs the mask "field"; renders and decodes every frame twice."""
    relevance: RelevanceConfig = field(default_factory=RelevanceConfig)
    """The relevance head, for the mask "field"."""


class LatentEditorModel(LatentNerfactoModel):
    """A latent scene that remembers how it was, and where it was edited."""

    config: LatentEditorModelConfig

    def populate_modules(self) -> None:
        """Builds the scene; the original and the relevance heads come with the first edit."""
        super().populate_modules()
        self.original: LatentNerfactoModel | None = None
        self.relevance = nn.ModuleDict()
        self.layers = LayerStack()
        self.delta_mask = DeltaMaskConfig()

    def keep_original(self) -> None:
        """Freezes a copy of the scene as it is now, unless there is one."""
        if self.original is not None:
            return
        beside = {name for name in self.state_dict() if name.startswith("relevance.")}
        original = LatentNerfactoModel(self.config, self.scene_box, self.num_train_data, **self.kwargs)
        original.load_state_dict({name: value for name, value in self.state_dict().items() if name not in beside})
        self.original = original.to(self.device).requires_grad_(False).eval()

    def prepare_for(self, state: dict[str, Any]) -> None:
        """Makes what the state of an edited scene has beside the scene, so that it can be loaded."""
        if any(name.startswith(ORIGINAL) for name in state):
            self.keep_original()
        for number in {name.removeprefix(RELEVANCE).split(".")[0] for name in state if name.startswith(RELEVANCE)}:
            self.relevance[number] = RelevanceHead(self.config.relevance).to(self.device)

    def train(self, mode: bool = True) -> "LatentEditorModel":
        """Switches to training or evaluation; the original is only ever looked at."""
        super().train(mode)
        if self.original is not None:
            self.original.eval()
        return self

    def fit_relevance(
        self,
        layer: int,
        sample: Callable[[int], tuple[RayBundle, Float[Tensor, "rays 1"]]],
    ) -> None:
        """Trains a layer's relevance head on rays of all views, through the densities of the unedited scene.

        Args:
            layer: The layer's number.
            sample: Returns that many random rays of all views, and the relevance each should render, in [0, 1].
        """
        head = fit_relevance(self.config.relevance, layer, self.device, sample, self._original_samples)
        self.relevance[str(layer)] = head

    @torch.no_grad()
    def render_relevance(self, rays: RayBundle, layers: Sequence[int]) -> Float[Tensor, "rows columns 1"]:
        """The highest relevance of these layers along each ray of an image; zero for layers without a head."""
        heads: list[Any] = [self.relevance[str(layer)] for layer in layers if str(layer) in self.relevance]
        size = rays.origins.shape[:2]
        rendered = []
        for first in range(0, len(rays), self.config.eval_num_rays_per_chunk):
            chunk = rays.get_row_major_sliced_ray_bundle(first, first + self.config.eval_num_rays_per_chunk)
            if heads:
                samples = self._original_samples(chunk.to(self.device))
                rendered.append(torch.stack([head.render(*samples) for head in heads]).amax(dim=0))
            else:
                rendered.append(torch.zeros(len(chunk), 1, device=self.device))
        return torch.cat(rendered).view(*size, 1).to(rays.origins)

    @torch.no_grad()
    def _original_samples(self, rays: RayBundle) -> Samples:
        """Positions in the unit cube along rays, and their weights in the unedited scene."""
        scene = self if self.original is None else self.original
        rays = scene.collider(rays)
        ray_samples, _, _ = scene.proposal_sampler(rays, density_fns=scene.density_fns)
        density, _ = scene.field.get_density(ray_samples)
        return scene.field.unit_positions(ray_samples), ray_samples.get_weights(density)

    def _maps_at(self, rays: RayBundle, size: tuple[int, int]) -> dict[str, Tensor]:
        """Returns the edited scene's maps; `original`, `relevance` and `mask_overlay` are made when asked for."""
        maps = super()._maps_at(rays, size)
        original = self.original
        if original is None:
            return maps
        active = [layer.number for layer in self.layers.active]
        maps = LazyMaps(maps)
        maps["original"] = lambda: original._maps_at(rays, size)["rgb"]
        maps["relevance"] = lambda: _enlarge(self.render_relevance(rays, active), size, "bilinear")
        maps["mask_overlay"] = lambda: _tint(maps["rgb"], self.region(rays, active, size))
        if self.config.composite and self.relevance:
            self._composite(maps, original._maps_at(rays, size), self.region(rays, active, size))
        elif renderers.BACKGROUND_COLOR_OVERRIDE is not None:
            maps.make_all()  # The background is known only now.
        return maps

    def region(self, rays: RayBundle, layers: Sequence[int], size: tuple[int, int]) -> Float[Tensor, "height width 1"]:
        """How much of each pixel the edit shows: all in the mask's cells, nothing beyond half a cell around them."""
        relevance = self.render_relevance(rays, layers).permute(2, 0, 1)[None]
        mask = relevance_mask(relevance, self.delta_mask)[0].permute(1, 2, 0).float()
        if tuple(mask.shape[:2]) == size:
            return mask
        # Between the centers of a cell inside and one outside, a half lies on the edge of the mask.
        return (2 * _enlarge(mask, size, "bilinear")).clamp(max=1)

    @staticmethod
    def _composite(
        maps: dict[str, Tensor], original: dict[str, Tensor], region: Float[Tensor, "height width 1"]
    ) -> None:
        """Lays the edited maps over those of the unedited scene, within the region."""
        maps["original"] = original["rgb"]
        for name, values in original.items():
            if name == "rgb":
                maps[name] = torch.where(region > 0, region * maps[name] + (1 - region) * values, values)
            else:
                maps[name] = torch.where(region > 0, maps[name], values)


class LazyMaps(dict[str, Any]):
    """Maps of an image, some of which are made when they are looked at: most of them nobody looks at."""

    def __getitem__(self, name: str) -> Tensor:
        """The map; made, and kept, where it was not made before."""
        values: Any = super().__getitem__(name)
        if callable(values):
            values = values()
            self[name] = values
        return values

    def items(self) -> Any:
        """All names and maps."""
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        """All maps."""
        return [self[name] for name in self]

    def make_all(self) -> None:
        """Makes all maps now."""
        self.values()


class LatentScene(TrainingScene):
    """A scene of latents: as the adapter refines them, and beside it the scene as it was before its first edit."""

    def __init__(self, datamanager: LatentDataManager, model: LatentEditorModel, autoencoder: Autoencoder) -> None:
        """Shows its views decoded by `autoencoder`."""
        super().__init__(datamanager, model)
        self._autoencoder = autoencoder

    @property
    def image_size(self) -> int:
        """Pixels along the long side of its views."""
        return int(self.model.image_size)

    def render(self, view: int) -> SceneView:
        """The refined latents from the view's camera."""
        return self.model.render_latents(self.datamanager.camera(view))

    def views_from(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "1 channels rows columns"], Float[Tensor, "1 channels rows columns"]]:
        """The refined latents of the unedited scene, and of the scene as it is now."""
        original = self.model if self.model.original is None else self.model.original
        unedited, now = (scene.latents_from(camera)[None] for scene in (original, self.model))
        return unedited, now

    def images(self, views: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """The decoded latents."""
        return self._autoencoder.decode(views)

    def keep_original(self) -> None:
        """Keeps the scene as it is before its first edit."""
        self.model.keep_original()


class FieldAgreement:
    """Lets all views agree in 3D on where an instruction applies, by a relevance head of its layer's own."""

    def __init__(
        self, model: LatentEditorModel, datamanager: LatentDataManager, layers: LayerStack, costs: EditCosts
    ) -> None:
        """Keeps the heads with `model`, and adds the time that their fits take to `costs`."""
        self._model = model
        self._datamanager = datamanager
        self._layers = layers
        self._costs = costs

    def __call__(self, instruction: str, relevance: list[Float[Tensor, "1 _ _"]]) -> list[Float[Tensor, "1 _ _"]]:
        """Fits the relevance head of an instruction's layer to the relevance of all views, and renders it from each."""
        started = perf_counter()
        model, data = self._model, self._datamanager
        model.keep_original()
        layer = next(layer.number for layer in self._layers.top if layer.instruction == instruction)
        wanted = EditableViews(relevance, "relevance")

        def sample(num_rays: int) -> tuple[RayBundle, Tensor]:
            cells, rays = data.sample_rays(num_rays)
            return rays, wanted.at(cells)

        CONSOLE.log(f"Fitting the relevance of '{instruction}' to {len(relevance)} views.")
        model.fit_relevance(layer, sample)
        cameras = (data.camera(view) for view in range(len(relevance)))
        rays = (camera.to(model.device).generate_rays(camera_indices=0, keep_shape=True) for camera in cameras)
        agreed = [model.render_relevance(bundle, [layer]).permute(2, 0, 1) for bundle in rays]
        self._costs.relevance_seconds += perf_counter() - started
        return agreed


@dataclass
class LatentEditorPipelineConfig(LatentNerfactoPipelineConfig, EditingConfig):
    """A latent scene and the edit it goes through."""

    _target: type = field(default_factory=lambda: LatentEditorPipeline)
    model: LatentEditorModelConfig = field(default_factory=LatentEditorModelConfig)
    """Options of the scene."""


class LatentEditorPipeline(EditingPipeline, LatentNerfactoPipeline):
    """Edits the latents that a latent nerfacto is trained on."""

    config: LatentEditorPipelineConfig
    reconstruction = "latent-nerfacto"
    masks = ("per-view", "field", "none")

    def __init__(self, config: LatentEditorPipelineConfig, *args: Any, **kwargs: Any) -> None:
        """Builds scene and editor, and shows the scene by the edit's mask and layers; the arguments are the host's."""
        super().__init__(config, *args, **kwargs)
        self.editor_model.layers = self.layers
        self.editor_model.delta_mask = config.edit.delta_mask

    @property
    def editor_model(self) -> LatentEditorModel:
        """The model under its own type."""
        model: Any = self.model
        return model

    def make_scene(self) -> LatentScene:
        """Makes a scene of latents."""
        return LatentScene(self.datamanager, self.editor_model, self.autoencoder)

    def editor_loader(self, device: str | torch.device) -> EditorLoader:
        """Returns what loads the InstructPix2Pix that edits."""
        edit, autoencoder, model, data = self.config.edit, self.autoencoder, self.editor_model, self.datamanager

        def load(layers: LayerStack, costs: EditCosts) -> LatentEditor:
            return load_latent_editor(edit, device, autoencoder, FieldAgreement(model, data, layers, costs))

        return load

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a reconstruction, which is edited from here on, or an edited run, whose edit goes on."""
        self.editor_model.prepare_for({key.removeprefix("module."): value for key, value in loaded_state.items()})
        super().load_pipeline(loaded_state, step)


def _enlarge(maps: Float[Tensor, "rows columns channels"], size: tuple[int, int], mode: str) -> Tensor:
    """A map in the size of an image."""
    if tuple(maps.shape[:2]) == size:
        return maps
    return F.interpolate(maps.permute(2, 0, 1)[None], size, mode=mode)[0].permute(1, 2, 0)


def _tint(image: Float[Tensor, "height width 3"], region: Float[Tensor, "height width 1"]) -> Tensor:
    """An image whose region is tinted."""
    return image * (1 - 0.5 * region) + 0.5 * region * torch.tensor(OVERLAY_COLOR).to(image)
