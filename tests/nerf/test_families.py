"""Latent scenes in the latents of other families' autoencoders, edited by the editors that these belong to."""

import pytest

from tests import runs
from tests.networks import tiny_editors


@pytest.mark.parametrize(("name", "channels"), [("klein", 32), ("qwen", 16)])
def test_a_scene_is_learnt_and_edited_in_the_latents_of_its_editor(
    name, channels, tiny_world_folder, tmp_path, monkeypatch
):
    from latenteditor.networks import qwen_image_edit

    small = {kind: sight._replace(area=64 * 64) for kind, sight in qwen_image_edit.SIGHTS.items()}
    monkeypatch.setattr(qwen_image_edit, "SIGHTS", small)
    tiny_editors.build(name, tmp_path)
    options = {"pipeline.reconstruction_steps": 1, "pipeline.edit.delta_mask.threshold": None}
    trainer = runs.train(runs.edit(tiny_world_folder, tmp_path / "model", tmp_path / "run", steps=4, **options))
    data = trainer.pipeline.datamanager
    assert data.originals[0].shape[0] == channels
    changed = [not target.equal(original) for target, original in zip(data.targets, data.originals, strict=True)]
    assert any(changed)
    assert all(target.isfinite().all() for target in data.targets)
