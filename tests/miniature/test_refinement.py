from pathlib import Path

import pytest
import torch

from latenteditor.miniature.editor_networks import EditorTrainingConfig
from latenteditor.miniature.fitting import FitConfig
from latenteditor.miniature.refinement import RefinementConfig, SourcesLoss, refine
from latenteditor.networks.models import resolve_model

START = Path(resolve_model("miniature"))
LOSSES: list[float] = []


class Interruption(Exception):
    """The power fails."""


def config() -> RefinementConfig:
    """Few steps on few and small views."""
    fit = FitConfig(steps=5, batch_size=2, warmup_steps=1, steps_per_checkpoint=2)
    return RefinementConfig(
        small_size=32,
        large_size=64,
        num_close=1,
        num_wide=1,
        shares=(0.5, 0.5, 0.0, 0.0),
        large_batch_size=1,
        editor=EditorTrainingConfig(fit=fit, outline_weight=4.0, rendered_share=0.5, own_share=0.5),
    )


@pytest.fixture
def losses(monkeypatch) -> list[float]:
    """Every loss from here on."""
    seen: list[float] = []
    compute = SourcesLoss.__call__

    def recorded(self, networks, generator):
        value = compute(self, networks, generator)
        seen.append(value.item())
        return value

    monkeypatch.setattr(SourcesLoss, "__call__", recorded)
    return seen


def test_a_refinement_that_was_killed_goes_on_with_the_same_losses_to_the_same_weights(tmp_path, losses, monkeypatch):
    whole = refine(config(), START, tmp_path / "whole", None, "cpu")
    curve = losses.copy()
    losses.clear()
    compute = SourcesLoss.__call__

    def interrupted(self, networks, generator):
        if len(losses) == 3:
            raise Interruption
        return compute(self, networks, generator)

    with monkeypatch.context() as patched:
        patched.setattr(SourcesLoss, "__call__", interrupted)
        with pytest.raises(Interruption):
            refine(config(), START, tmp_path / "part", None, "cpu")
    before = losses.copy()
    losses.clear()
    resumed = refine(config(), START, tmp_path / "part", None, "cpu")
    assert before == curve[:3]
    assert losses == curve[2:], "from the last checkpoint on, after two steps"
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))


def test_a_refinement_of_no_steps_is_the_editor_it_started_from(tmp_path):
    from safetensors.torch import load_file

    still = config()
    still.editor.fit.steps = 0
    networks = refine(still, START, tmp_path, None, "cpu")
    shipped = load_file(START / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, shipped[name].float()) for name, value in networks.unet.state_dict().items())


def test_what_is_never_taken_is_not_made(tmp_path):
    refine(config(), START, tmp_path, None, "cpu")
    assert not list((tmp_path / "pairs").glob("worlds*"))
