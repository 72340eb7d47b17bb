import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tyro
from torch import nn

from latenteditor.miniature.parallel import average_gradients, gather, share
from latenteditor.miniature.training import TrainingConfig, train_editor

ROOT = Path(__file__).parents[2]
NO_STEPS = "--autoencoder.fit.steps 0 --autoencoder.decoder-fit.steps 0 --editor.fit.steps 0 --large-fit.steps 0"
NO_STEPS += " --refinement.editor.fit.steps 0"
SMALL = "--num-worlds 101 --size 16 --num-large-worlds 1 --large-size 32 --editor.channels 16 32 --editor.text-width 16"
SMALL += (
    " --refinement.small-size 16 --refinement.large-size 32 --refinement.large-batch-size 1 --refinement.num-close 1"
)
SMALL += " --refinement.num-wide 1 --refinement.num-small 1 --refinement.num-large 1"

PARTS = """
import torch
from torch import nn
from latenteditor.miniature.parallel import average_gradients, gather, join_processes, process_index, share

join_processes()
values = torch.arange(5.0)
assert share(values).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0]][process_index()]
assert torch.equal(gather(share(values)), values)
network = nn.Linear(2, 1, bias=False)
(network.weight.sum() * (1 + 2 * process_index())).backward()
average_gradients(network)
assert network.weight.grad.tolist() == [[2.0, 2.0]]
"""


def run_in_two(script: Path, *options: str) -> None:
    """Runs a script in two processes, as the README says."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(script), *options], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_processes_share_values_and_step_by_the_mean_of_their_gradients(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)
    run_in_two(tmp_path / "parts.py")


def test_a_single_process_has_everything():
    values, network = torch.arange(5), nn.Linear(2, 1, bias=False)
    assert torch.equal(share(values), values)
    assert torch.equal(gather(values), values)
    network.weight.sum().backward()
    average_gradients(network)
    assert network.weight.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("name", ["latents.pt", "large_latents.pt"])
def test_two_processes_prepare_what_one_does(prepared, name):
    alone, together = (torch.load(folder / name, weights_only=True) for folder in prepared)
    assert alone.keys() == together.keys()
    for field, values in alone.items():
        assert torch.allclose(values.float(), together[field].float(), atol=1e-5), field


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Path]:
    """Work folders of a training without any step, by one process and by two."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    options = [*SMALL.split(), *NO_STEPS.split()]
    run_in_two(
        ROOT / "scripts/train_editor.py", "--work-dir", str(together), "--output", str(together / "out"), *options
    )
    train_editor(tyro.cli(TrainingConfig, args=["--work-dir", str(alone), "--output", str(alone / "out"), *options]))
    return alone, together
