"""Where a run stands within its command: what else it takes to go on as if it had never stopped.

Scene, optimizers and edit are anybody's who loads a checkpoint. The moment is taken only by the command that left it,
or by the same one again: generators, orders that were drawn but not used up, and what somebody changed by hand.
"""

import random
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch


@runtime_checkable
class HasMoment(Protocol):
    """What stands somewhere that its weights and its edit do not tell."""

    def moment(self) -> dict[str, Any]:
        """Where it stands, in plain containers and CPU tensors."""
        ...

    def load_moment(self, moment: dict[str, Any]) -> None:
        """Goes on from there."""
        ...


def moment_of(pipeline: Any) -> dict[str, Any]:
    """Where a pipeline stands: the generators, its samplers, its data and its edit."""
    sampler = pipeline.model.proposal_sampler
    return {
        "generators": generators_state(),
        # The host's sampler counts since when the proposal networks have had no gradient.
        "sampler": {"step": int(sampler._step), "steps_since_update": int(sampler._steps_since_update)},
        "views": pipeline.datamanager.moment() if isinstance(pipeline.datamanager, HasMoment) else {},
        "edit": pipeline.moment() if isinstance(pipeline, HasMoment) else {},
    }


def load_edit(pipeline: Any, moment: dict[str, Any]) -> None:
    """Lets a pipeline's edit go on from there, before its training is prepared."""
    if isinstance(pipeline, HasMoment):
        pipeline.load_moment(moment["edit"])


def load_training(pipeline: Any, moment: dict[str, Any], generators: bool = True) -> None:
    """Lets everything else go on from there, right before the first step: building it has drawn from the generators.

    Args:
        pipeline: What trains.
        moment: Where it stood.
        generators: Restores these too; processes that train together must not share one state of them.
    """
    sampler, counts = pipeline.model.proposal_sampler, moment["sampler"]
    sampler._step, sampler._steps_since_update = counts["step"], counts["steps_since_update"]
    if isinstance(pipeline.datamanager, HasMoment):
        pipeline.datamanager.load_moment(moment["views"])
    if generators:
        load_generators(moment["generators"])


def generators_state() -> dict[str, Any]:
    """All generators that the host, torch and this package draw from without being given one."""
    version, words, gauss = random.getstate()
    numpys: Any = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "words": torch.from_numpy(numpys["state"]["key"].astype(np.int64)),
            "position": int(numpys["state"]["pos"]),
            "has_gauss": int(numpys["has_gauss"]),
            "gauss": float(numpys["gauss"]),
        },
    }


def load_generators(state: dict[str, Any]) -> None:
    """Lets all generators go on from there; those of GPUs where there are as many."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    pythons, numpys = state["python"], state["numpy"]
    random.setstate((pythons["version"], tuple(pythons["words"].tolist()), pythons["gauss"]))
    words = numpys["words"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, numpys["position"], numpys["has_gauss"], numpys["gauss"]))
