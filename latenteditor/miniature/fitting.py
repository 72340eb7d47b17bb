"""Fits one network, resumably: AdamW, a running mean of the weights, checkpoints that load on any device."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from latenteditor.miniature.parallel import average_gradients, num_processes, process_index


@dataclass
class FitConfig:
    """How one network is fitted."""

    steps: int
    """Gradient steps in all; a run that was interrupted goes on from its checkpoint."""
    batch_size: int
    """Pictures per step and process."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up."""
    warmup_steps: int = 100
    """Steps in which the rate rises from zero."""
    decay_share: float = 0.35
    """The last part of all steps, in which the rate falls linearly to zero. What comes before does not depend on
    how many steps there are, so that a fit which proves too short can go on from an earlier checkpoint."""
    ema_decay: float = 0.998
    """Of the running mean of the weights, which is what is saved."""
    steps_per_checkpoint: int = 250
    """Steps between checkpoints."""
    bf16: bool = False
    """Computes in bfloat16 where that is safe (autocast)."""
    seed: int = 0
    """Of weights and batches."""

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        falling = min(1.0, (self.steps - step) / max(1.0, self.decay_share * self.steps))
        return self.learning_rate * rising * falling


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, torch.Generator], Tensor],
    config: FitConfig,
    checkpoint: Path,
    name: str,
) -> nn.Module:
    """Fits a network by AdamW and returns the running mean of its weights.

    Several processes each draw their own batches, and step alike by the mean of their gradients.

    Args:
        network: On the device to train on; changed in place.
        loss: Of one batch, drawn by the generator it is given, which depends on the step and the process alone.
        config: Steps, rates and precision.
        checkpoint: Written every so many steps and read first where it exists.
        name: Shown in the progress bar.
    """
    device = next(network.parameters()).device
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer}
    first = _resume(parts, checkpoint, device)
    bar = tqdm(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        desc=name,
        mininterval=5,
        disable=process_index() > 0,
    )
    for step in bar:
        value = _step(network, loss, optimizer, config, step)
        averaged.update_parameters(network)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
        due = (step + 1) % config.steps_per_checkpoint == 0 or step + 1 == config.steps
        if due and process_index() == 0:
            _save(parts, step + 1, checkpoint)
    return averaged.module.eval()


def _step(
    network: nn.Module,
    loss: Callable[[nn.Module, torch.Generator], Tensor],
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    step: int,
) -> Tensor:
    """One gradient step, and the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = config.rate(step)
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step * num_processes() + process_index())
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
        value = loss(network, generator)
    optimizer.zero_grad()
    value.backward()
    average_gradients(network)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return value


def _resume(parts: dict[str, Any], checkpoint: Path, device: torch.device) -> int:
    """Takes the state of network, mean and optimizer from a checkpoint, if there is one; returns the next step."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


def _save(parts: dict[str, Any], step: int, checkpoint: Path) -> None:
    """Writes a checkpoint whole, or leaves the one before it."""
    state = {**{name: part.state_dict() for name, part in parts.items()}, "step": step}
    torch.save(state, checkpoint.with_suffix(".partial"))
    checkpoint.with_suffix(".partial").rename(checkpoint)
