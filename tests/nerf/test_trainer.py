import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.utils import writer

from latenteditor import methods
from latenteditor.nerf.trainer import EditTrainerConfig, FittingOptimizers, _require_checkpoints
from tests import runs


def optimizers(**sizes: int) -> FittingOptimizers:
    """Optimizers of one parameter per group, each after one step."""
    config = {
        "optimizer": AdamOptimizerConfig(lr=0.1),
        "scheduler": ExponentialDecaySchedulerConfig(lr_final=0.01, max_steps=10),
    }
    torch.manual_seed(sum(sizes.values()))
    groups = {name: [torch.nn.Parameter(torch.randn(size))] for name, size in sizes.items()}
    made = FittingOptimizers(dict.fromkeys(sizes, config), groups)  # type: ignore[arg-type]
    for (parameter,) in groups.values():
        parameter.grad = torch.randn_like(parameter)
    made.optimizer_step_all()
    made.scheduler_step_all(0)
    return made


def states(of: dict) -> dict:
    return {name: part.state_dict() for name, part in of.items()}


def first_moment(made: FittingOptimizers, name: str) -> torch.Tensor:
    (state,) = made.optimizers[name].state.values()
    return state["exp_avg"]


def test_every_method_trains_with_this_trainer():
    for specification in (methods.latent_nerfacto, methods.latenteditor, methods.latenteditor_tiny):
        assert isinstance(specification.config, EditTrainerConfig)


def test_optimizers_take_what_has_their_name():
    own, saved = optimizers(fields=3, adapter=4), optimizers(fields=3, adapter=4, unheard_of=2)
    saved.scheduler_step_all(1)
    own.load_optimizers(states(saved.optimizers))
    own.load_schedulers(states(saved.schedulers))
    for name in ("fields", "adapter"):
        assert torch.equal(first_moment(own, name), first_moment(saved, name))
        assert own.schedulers[name].get_last_lr() == saved.schedulers[name].get_last_lr()


def test_a_group_that_the_checkpoint_lacks_starts_afresh_and_is_named(capsys):
    own, saved = optimizers(fields=3, adapter=4), optimizers(fields=3)
    before = first_moment(own, "adapter").clone()
    own.load_optimizers(states(saved.optimizers))
    assert torch.equal(first_moment(own, "adapter"), before)
    assert torch.equal(first_moment(own, "fields"), first_moment(saved, "fields"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "nothing that fits adapter" in shown


def test_a_group_with_other_parameters_starts_afresh_and_is_named(capsys):
    own, saved = optimizers(fields=3), optimizers(fields=3)
    state = states(saved.optimizers)
    state["fields"]["param_groups"][0]["params"] = [0, 1]
    before = first_moment(own, "fields").clone()
    own.load_optimizers(state)
    assert torch.equal(first_moment(own, "fields"), before)
    assert "nothing that fits fields" in " ".join(capsys.readouterr().out.split())


def test_progress_is_shown_against_the_steps_there_will_be(
    reconstructed_run, tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path
):
    load_dir = runs.checkpoints(reconstructed_run.config)
    trainer = runs.train(
        runs.reconstruction(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, 2, load_dir=load_dir)
    )
    assert writer.GLOBAL_BUFFER["max_iter"] == 3 + 2
    assert [path.name for path in runs.checkpoints(trainer.config).iterdir()] == ["step-000000004.ckpt"]


def test_the_folder_that_was_probably_meant_is_named(reconstructed_run):
    run, inside = reconstructed_run.base_dir, runs.checkpoints(reconstructed_run.config)
    _require_checkpoints(inside)
    with pytest.raises(ValueError, match=f"is no folder of checkpoints.*: pass {inside}"):
        _require_checkpoints(run)


def test_checkpoints_with_a_schedulers_numpy_numbers_are_read(tmp_path):
    torch.save({"lr": np.float64(0.1)}, tmp_path / "numbers.ckpt")
    assert torch.load(tmp_path / "numbers.ckpt", weights_only=True) == {"lr": 0.1}


def test_checkpoints_with_anything_else_are_still_refused(tmp_path):
    torch.save({"surprise": Fraction(1, 2)}, tmp_path / "surprise.ckpt")
    with pytest.raises(pickle.UnpicklingError, match=r"fractions\.Fraction"):
        torch.load(tmp_path / "surprise.ckpt", weights_only=True)
