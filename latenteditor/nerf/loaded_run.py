"""A run that has ended, with its newest checkpoint, to look at or to measure."""

from pathlib import Path
from typing import NamedTuple

import yaml
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.eval_utils import eval_setup


class LoadedRun(NamedTuple):
    """What a run's config.yml leads to."""

    config: TrainerConfig
    """The settings it was trained with."""
    pipeline: Pipeline
    """Its scene and data, in evaluation mode; held-out views are those of the test split."""
    step: int
    """At which its newest checkpoint was saved."""


def load_run(config: Path) -> LoadedRun:
    """Loads a run's newest checkpoint.

    Args:
        config: The run's config.yml.

    Raises:
        ValueError: There is no such file, or nothing that can be loaded from it.
    """
    if not config.is_file():
        raise ValueError(f"There is no run's config {config}: pass the config.yml that ns-train wrote.")
    try:
        loaded, pipeline, _, step = eval_setup(config, test_mode="test")
    except (yaml.YAMLError, AssertionError, IndexError) as error:
        raise ValueError(
            f"The run of {config} could not be loaded ({error!r}): pass the config.yml that ns-train wrote beside the "
            "run's nerfstudio_models."
        ) from error
    return LoadedRun(loaded, pipeline, step)
