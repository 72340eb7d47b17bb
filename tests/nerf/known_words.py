"""Runs whose editor understands two words, so that what it does to a scene is known."""

import torch

from latenteditor.editing.editor import LatentEditor
from latenteditor.editing.pixel_editor import PixelEditor
from tests import runs
from tests.editing.denoisers import KnownEdit


class KnownWords(KnownEdit):
    """Adds to the upper half of the latents at "up", to the lower at "down", and knows no other word."""

    def embed(self, prompt):
        """Reads every prompt."""

    def predict_noise(self, noisy, image_condition, timestep, prompts):
        rows = noisy.shape[-2]
        upper = (torch.arange(rows) < rows // 2)[:, None].expand(rows, noisy.shape[-1])
        words = {"up": upper, "down": ~upper}
        predicted = torch.empty_like(noisy)
        for row, prompt in enumerate(prompts):
            self.prompt = prompt
            self.change = 3.0 * words.get(prompt.split()[-1] if prompt else "", torch.zeros(rows, 1))
            predicted[row : row + 1] = super().predict_noise(
                noisy[row : row + 1], image_condition[row : row + 1], timestep, [prompt]
            )
        return predicted


def with_known_words(trainer):
    """A trainer whose pipeline edits by known words."""
    pipeline = trainer.pipeline
    config = pipeline.config.edit
    config.guidance.text, config.guidance.image, config.delta_mask.gate = 1.0, 1.0, 0.1
    session = pipeline.session
    editor = LatentEditor(KnownWords(torch.zeros(1)), config, session.latent_editor.agree)
    loaded = session.editor
    session.editor = PixelEditor(editor, loaded.autoencoder) if isinstance(loaded, PixelEditor) else editor
    session.update.editor = session.editor
    return trainer


def train(config):
    trainer = with_known_words(runs.set_up(config))
    trainer.train()
    return trainer
