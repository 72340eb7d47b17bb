"""The settings of an edit: what the command asks for, and what somebody changed by hand since."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from latenteditor.editing.edit_schedule import EditScheduleConfig
from latenteditor.editing.editor import EditConfig
from latenteditor.language.prompts import PromptSplitConfig

OF_THE_MACHINE = ("model", "half_precision", "cpu_offload", "max_batch")
"""What of an edit's settings belongs to the machine rather than to the edit."""


@dataclass
class EditingConfig:
    """The edit that a scene goes through."""

    edit: EditConfig = field(default_factory=EditConfig)
    """What to change, and how."""
    schedule: EditScheduleConfig = field(default_factory=EditScheduleConfig)
    """Which views are edited when."""
    split: PromptSplitConfig = field(default_factory=PromptSplitConfig)
    """How a prompt that asks for several things is split: each gets its own mask and edit, and is a layer of its own. A
    prompt is kept whole where there is no mask."""
    hide_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to switch off, as it lists them; the scene goes back to what it was there."""
    show_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to switch on again."""
    remove_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to remove for good. The loaded run itself keeps them."""
    reconstruction_steps: int = 3000
    """Steps that learn the scene before the first edit, where no run is loaded with --load-dir. As many as
    latent-nerfacto trains."""
    keep_waiting_out: bool = True
    """Trains on no part of a view that the prompt will change and has not yet: the cells of its mask, widened by one,
    come back with the view's edit. Without this they pull the scene back to what it was. Nothing is kept out where
    there is no mask, or where it is nearly the whole view. Our choice; the benchmark has the figures."""
    edits_per_picture: int = 10
    """A view edit with its mask goes to tensorboard (or wandb) every this many view edits. Our choice."""

    @property
    def changes_layers(self) -> bool:
        """Whether layers of the loaded run are to be switched or removed."""
        return bool(self.hide_layers or self.show_layers or self.remove_layers)


def settings_of(config: EditingConfig) -> dict[str, Any]:
    """The settings by dotted names, in plain values: what tells one edit from another."""
    found = {f"edit.{name}": value for name, value in _flat(config.edit).items() if name not in OF_THE_MACHINE}
    found |= {f"schedule.{name}": value for name, value in _flat(config.schedule).items()}
    found |= {name: tuple(getattr(config, name)) for name in ("hide_layers", "show_layers", "remove_layers")}
    model: Any = getattr(config, "model", None)
    return found | ({"model.composite": model.composite} if hasattr(model, "composite") else {})


def apply_settings(config: EditingConfig, settings: dict[str, Any]) -> list[str]:
    """Sets what differs, and returns the names of it with its values; what is not known here is passed over."""
    now = settings_of(config)
    changed = {name: value for name, value in settings.items() if name in now and now[name] != value}
    for name, value in changed.items():
        *owners, last = name.split(".")
        owner: Any = config
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, value)
    return [f"{name} {value}" for name, value in changed.items()]


def _flat(config: Any) -> dict[str, Any]:
    """The values of a dataclass and of those within it."""
    flat = {}
    for part in fields(config):
        value = getattr(config, part.name)
        inner = _flat(value) if is_dataclass(value) else None
        flat |= {part.name: value} if inner is None else {f"{part.name}.{name}": inner[name] for name in inner}
    return flat
