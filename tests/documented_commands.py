"""Runs commands as the documentation writes them, in one process, small: reads them as JSON, prints what came of each.

Each is read by the parser that would read it on a command line. What it then asks for is done here and now, on sizes
where it takes seconds; ``<time>`` is the name of the newest run there is.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.scripts import eval as ns_eval
from nerfstudio.scripts import render, train
from nerfstudio.scripts.viewer import run_viewer
from nerfstudio.utils.eval_utils import eval_setup

from latenteditor.nerf.in2n import _without_lpips_of_the_host
from latenteditor.options import has_option, set_options

SMALL = {
    "vis": "tensorboard",
    "machine.device_type": "cpu",
    "mixed_precision": False,
    "max_num_iterations": 3,
    "pipeline.autoencoder": "editor",
    "pipeline.reconstruction_steps": 1,
    "pipeline.schedule.steps_per_edit": 1,
    "pipeline.edit.model": "editor",
    "pipeline.edit.denoising_steps": 2,
    "pipeline.edit.delta_mask.draws": 1,
    "pipeline.edit.delta_mask.gate": 0.0,
    "pipeline.datamanager.image_size": 32,
    "pipeline.datamanager.train_num_rays_per_batch": 64,
    "pipeline.datamanager.eval_num_rays_per_batch": 64,
    "pipeline.model.implementation": "torch",
    "pipeline.model.lpips_loss_mult": 0.0,
    "pipeline.model.num_levels": 2,
    "pipeline.model.max_res": 24,
    "pipeline.model.hidden_dim": 16,
    "pipeline.model.log2_hashmap_size": 10,
    "pipeline.model.num_nerf_samples_per_ray": 8,
    "pipeline.model.adapter_width": 16,
    "pipeline.model.adapter_heads": 2,
}
"""Options of every method that has them."""
SMALL_IN2N = {"pipeline.datamanager.patch_size": 8}
SMALL_COMMANDS: dict[str, dict[str, Any]] = {
    "preview": {
        "edit.model": "editor",
        "edit.denoising_steps": 2,
        "edit.delta_mask.draws": 1,
        "device": "cpu",
        "overwrite": True,  # README and guide both show it.
    },
    "evaluate": {"clip": "none", "device": "cpu"},
    "world": {"num_views": 3, "num_held_out": 2, "size": 16},
    "edit-scene": {},
    "write-dataset": {},
    "finish": {"method": "dense-nerfacto", "device": "cpu", "steps": 2},
}
"""Subcommands of `latenteditor` that are run here, and their options; the others are read only."""


def main() -> None:
    """Reads a list of commands, does them in order, and prints a list of "ran", "read" or what went wrong."""
    outcomes = []
    for written in json.load(sys.stdin):
        try:
            words = [_existing(word) for word in written]
            outcomes.append(TOOLS[words[0]](words[1:]) or "ran")
        except BaseException:
            outcomes.append(traceback.format_exc())
    sys.stdout.write(f"{json.dumps(outcomes)}\n")


def ns_train(words: list[str]) -> None:
    """Trains a few steps."""
    config: Any = tyro.cli(AnnotatedBaseConfigUnion, args=words)
    if config.method_name == "nerfacto":
        config.pipeline.datamanager = VanillaDataManagerConfig(dataparser=config.pipeline.datamanager.dataparser)
    small = SMALL | (SMALL_IN2N if config.method_name.startswith("in2n") else {})
    set_options(config, {name: value for name, value in small.items() if has_option(config, name.split("."))})
    with _without_lpips_of_the_host():
        train.main(config)


def ns_viewer(words: list[str]) -> None:
    """Loads what the viewer would show; serving it would never end."""
    viewer = tyro.cli(tyro.conf.FlagConversionOff[run_viewer.RunViewer], args=words)
    assert viewer.viewer.websocket_host == "127.0.0.1"
    eval_setup(viewer.load_config, eval_num_rays_per_chunk=None, test_mode="test")


def ns_export(words: list[str]) -> str | None:
    """Exports a few points."""
    try:
        from nerfstudio.scripts import exporter
    except ImportError as error:  # A system library that the guide names.
        return f"skipped: {error}"
    command: Any = tyro.cli(exporter.Commands, args=words)
    command.num_points, command.remove_outliers = 50, False
    command.main()
    return None


def latenteditor(words: list[str]) -> str | None:
    """Runs a quick subcommand; of the others, reads the options."""
    from latenteditor import cli

    name, rest = cli.split(words)
    module, args = cli.parse(name, rest)
    if name not in SMALL_COMMANDS:
        tests = Path(__file__).with_name("commands") / f"test_{name.replace(' ', '_').replace('-', '_')}.py"
        return "read" if tests.exists() else f"there is no test of {name}"
    set_options(args, SMALL_COMMANDS[name])
    module.main(args)
    return None


TOOLS: dict[str, Callable[[list[str]], str | None]] = {
    "ns-train": ns_train,
    "ns-viewer": ns_viewer,
    "ns-render": lambda words: tyro.cli(render.Commands, args=words).main(),
    "ns-eval": lambda words: tyro.cli(ns_eval.ComputePSNR, args=words).main(),
    "ns-export": ns_export,
    "latenteditor": latenteditor,
}


def _existing(word: str) -> str:
    """A path in which the name of a run is left open, with that of the newest one."""
    if "<time>" not in word:
        return word
    found = sorted(Path().glob(word.replace("<time>", "*")), key=lambda path: path.stat().st_mtime)
    assert found, f"there is no {word}"
    return str(found[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
