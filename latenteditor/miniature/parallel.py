"""Training in several processes at once, as ``torchrun`` starts them; in a single process nothing happens here."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import environ

import torch
import torch.distributed
from torch import nn


def join_processes() -> None:
    """Joins the processes that ``torchrun`` started, if it did."""
    if "WORLD_SIZE" in environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def num_processes() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def process_index() -> int:
    """Which of the processes this is; the first one, 0, writes files."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process goes through the block alone; the others follow and find what it wrote."""
    if process_index() > 0:
        torch.distributed.barrier()
    yield
    if num_processes() > 1 and process_index() == 0:
        torch.distributed.barrier()


def average_gradients(network: nn.Module) -> None:
    """Replaces each gradient by its mean over all processes."""
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients]).cpu() / num_processes()
    torch.distributed.all_reduce(joined)
    for gradient, mean in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
