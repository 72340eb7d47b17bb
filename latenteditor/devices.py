"""Where to compute, unless somebody says."""

import torch


def default_device() -> str:
    """The accelerator of this machine, as torch names its kind; "cpu" where there is none that works."""
    # torch knows of an accelerator whose driver is missing, too.
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type
