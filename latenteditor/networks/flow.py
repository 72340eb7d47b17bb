"""The flow schedule of a pipeline in the diffusers format, whose steps follow from the size of a view."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from latenteditor.editing.noise_schedule import FlowSchedule, Size
from latenteditor.networks.packing import count_tokens
from latenteditor.networks.parts import require_file

LogShift = Callable[[Mapping[str, Any], int, int], float]
"""The logarithm of the shift, of a scheduler's config, the tokens of a view and the number of steps."""

OTHER_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas")
"""Settings of a scheduler under which steps are spaced in ways that no editor known here is sampled in."""


def linear_log_shift(config: Mapping[str, Any], tokens: int, _num_steps: int) -> float:
    """A line through the config's two numbers of tokens and their shifts: FLUX.1 and Qwen-Image."""
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, greatest = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return least + (greatest - least) * (tokens - fewest) / (most - fewest)


def load_flow_schedule(model: str, kind: str, packing: int, log_shift: LogShift = linear_log_shift) -> FlowSchedule:
    """Reads a pipeline's flow schedule.

    Args:
        model: A hub id or a local folder.
        kind: What a refusal calls the editor.
        packing: Latent cells along each side of a token.
        log_shift: How its authors' shift follows from a view's tokens.

    Raises:
        ValueError: If there is no such model, or its scheduler is another than such a model's.
    """
    config = require_file(model, "scheduler/scheduler_config.json", kind)
    other = [name for name in OTHER_SPACINGS if config.get(name)]
    if other:
        raise ValueError(
            f"The scheduler of '{model}' asks for {other[0]}, and a {kind} is sampled here without: drop it."
        )
    linear = config.get("time_shift_type") == "linear"

    def shift(size: Size | None, num_steps: int) -> float:
        if not config.get("use_dynamic_shifting"):
            return config.get("shift", 1.0)
        if size is None:
            return 1.0
        found = log_shift(config, count_tokens(size, packing), num_steps)
        return found if linear else math.exp(found)

    return FlowSchedule(shift, config.get("shift_terminal"), config.get("num_train_timesteps", 1000))
