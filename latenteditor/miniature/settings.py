"""How the built-in editor is used: settings that were chosen for it on worlds which no figure is reported on."""

from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Guidance

EDIT = EditConfig(
    model="miniature",
    guidance=Guidance(text=1.25, image=1.0),
    min_noise=0.7,
    denoising_steps=10,
    delta_mask=DeltaMaskConfig(noise_level=0.8, threshold=0.25, gate=0.4),
)
