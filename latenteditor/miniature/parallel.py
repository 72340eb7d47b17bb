"""Training in several processes at once, as ``torchrun`` starts them; in a single process nothing happens here."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from os import environ
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

LONGEST_WAIT = timedelta(days=1)
"""How long one process waits for the others, who may have more to read, to make or to write."""


def join_processes() -> None:
    """Joins the processes that ``torchrun`` started, if it did, until this one ends."""
    if "WORLD_SIZE" in environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
        # A process that ends while its threads still listen to the others is aborted at times.
        atexit.register(torch.distributed.destroy_process_group)


def num_processes() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def process_index() -> int:
    """Which of the processes this is; the first one, 0, writes files."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if num_processes() > 1:
        torch.distributed.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process goes through the block alone; the others follow and find what it wrote."""
    if process_index() > 0:
        wait_for_all()
    yield
    if process_index() == 0:
        wait_for_all()


def share(values: Tensor) -> Tensor:
    """This process's part of the values, in order; empty where there are fewer values than processes."""
    return values.tensor_split(num_processes())[process_index()]


def gather(values: Tensor) -> Tensor:
    """The parts of all processes, joined in order: what ``share`` took apart."""
    if num_processes() == 1:
        return values
    parts: list[Any] = [None] * num_processes()
    torch.distributed.all_gather_object(parts, values)
    return torch.cat(parts)


def average_gradients(network: nn.Module) -> None:
    """Replaces each gradient by its mean over all processes."""
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients]).cpu() / num_processes()
    torch.distributed.all_reduce(joined)
    for gradient, mean in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
