"""Which views are edited at which training step."""

from dataclasses import dataclass

import torch


@dataclass
class EditScheduleConfig:
    """How often, and how many views at a time, the training set is edited."""

    steps_per_edit: int = 10
    """Training steps from one edit to the next. Lower changes the scene sooner and takes longer per step.
    From Instruct-NeRF2NeRF."""
    views_per_edit: int = 1
    """Views edited together, in one batch of the denoiser: three latents of memory for each. From
    Instruct-NeRF2NeRF."""
    seed: int = 0
    """Seed of the order in which views are edited."""

    def __post_init__(self) -> None:
        """Refuses rates at which nothing would ever be edited."""
        if self.steps_per_edit < 1 or self.views_per_edit < 1:
            raise ValueError(
                f"Edits need 1 or more steps between them and 1 or more views each, "
                f"not {self.steps_per_edit} steps and {self.views_per_edit} views."
            )


class EditSchedule:
    """Deals out the views in a shuffled order, all of them once before any of them again."""

    def __init__(self, config: EditScheduleConfig, num_views: int, first_step: int = 0) -> None:
        """Deals out ``num_views`` views from the training step ``first_step`` on."""
        if num_views < 1:
            raise ValueError("There is no view to edit: the scene has none.")
        self.config = config
        self.num_views = num_views
        self.first_step = first_step
        self.views_dealt = 0

    def views_due(self, step: int) -> list[int]:
        """The views to edit before this step: none at most steps, fewer at the end of a round."""
        since_first = step - self.first_step
        if since_first < 0 or since_first % self.config.steps_per_edit:
            return []
        return self.deal()

    def deal(self) -> list[int]:
        """The next views in the order, whatever the step."""
        finished_rounds, position = divmod(self.views_dealt, self.num_views)
        views = self.order(finished_rounds)[position : position + self.config.views_per_edit]
        self.views_dealt += len(views)
        return views

    def order(self, finished_rounds: int) -> list[int]:
        """The order of one round, a function of the seed and of how many rounds came before."""
        generator = torch.Generator().manual_seed(self.config.seed + finished_rounds)
        return torch.randperm(self.num_views, generator=generator).tolist()

    def reset(self) -> None:
        """Starts the order again."""
        self.views_dealt = 0

    def state_dict(self) -> dict[str, int]:
        return {"views_dealt": self.views_dealt}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.views_dealt = state["views_dealt"]
