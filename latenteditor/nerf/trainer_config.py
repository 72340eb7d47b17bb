"""What ns-train is told, looked over before it is printed, saved or built from.

ns-train prints and saves a config before it builds anything. What must not be written, such as a key, is refused
before that.
"""

import sys
from dataclasses import dataclass
from traceback import walk_stack
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from latenteditor.language.prompts import require_no_key
from latenteditor.nerf.checkpoints import checkpoint_path, step_to_look_at
from latenteditor.nerf.one_line import show_mistakes_as_one_line
from latenteditor.nerf.option_ranges import require_in_range

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
HOST_OPTION = "--viewer.websocket-host"
LOADER = "eval_setup"
"""The function by which the host loads a finished run."""


@dataclass
class CheckedTrainerConfig(TrainerConfig):
    """A config of the training that is refused before anything is written where it would not do."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an option; where the host sets one of a finished run, what it takes for granted is looked after.

        ns-viewer replaces the settings of the viewer by the host's own, with which everybody in the network can look:
        the run keeps its address unless the command names one. Who looks at a run names the folder of its checkpoints,
        of which the host then loads the newest: a damaged one is passed over.
        """
        before = self.__dict__.get(name)
        if name == "viewer" and isinstance(before, ViewerConfig) and isinstance(value, ViewerConfig):
            if not _names_address(sys.argv):
                value.websocket_host = before.websocket_host
            warn_if_others_can_look(value)
        super().__setattr__(name, value)
        if name == "load_dir" and _is_looked_at():
            show_mistakes_as_one_line()
            folder: Any = self.load_dir
            if self.load_step is None or not checkpoint_path(folder, self.load_step).is_file():
                self.load_step = step_to_look_at(folder, CONSOLE.log)

    def print_to_terminal(self) -> None:
        """Prints the options, as ns-train does first of all; from here on its mistakes are shown as one line.

        Raises:
            ValueError: An option lies outside its range, or holds a key.
        """
        show_mistakes_as_one_line()
        self._require_no_key()
        require_in_range(self)
        if self.is_viewer_enabled() or self.is_viewer_legacy_enabled():
            warn_if_others_can_look(self.viewer)
        super().print_to_terminal()

    def save_config(self) -> None:
        """Saves the options with the run.

        Raises:
            ValueError: One of them holds a key, or the folder of the run cannot be written.
        """
        self._require_no_key()
        try:
            self.write_first()
        except OSError as error:
            raise ValueError(
                f"The run cannot be written to {self.get_base_dir()} ({error.strerror or error}): make room there, or "
                "pass another --output-dir."
            ) from error

    def write_first(self) -> None:
        """Writes the options where nothing was written yet."""
        super().save_config()

    def setup(self, **kwargs: Any) -> Any:
        """Builds the trainer.

        Raises:
            ValueError: An option lies outside its range.
        """
        require_in_range(self)
        return super().setup(**kwargs)

    def _require_no_key(self) -> None:
        split = getattr(self.pipeline, "split", None)
        if split is not None:
            require_no_key(split)


def warn_if_others_can_look(viewer: ViewerConfig) -> None:
    """Says so where a scene is served beyond this machine."""
    if viewer.make_share_url:
        CONSOLE.log("[bold yellow]Everybody who has the shared address can look at this scene and steer its edit.")
    elif viewer.websocket_host not in LOOPBACK:
        CONSOLE.log(
            f"[bold yellow]Everybody who reaches this machine at {viewer.websocket_host} can look at this scene and "
            f"steer its edit: {HOST_OPTION} 127.0.0.1 keeps it to this machine."
        )


def _is_looked_at() -> bool:
    """Whether the host is loading a finished run, as all its commands but ns-train do."""
    return any(
        frame.f_code.co_name == LOADER and "nerfstudio" in frame.f_code.co_filename for frame, _ in walk_stack(None)
    )


def _names_address(words: list[str]) -> bool:
    """Whether a command line says where the viewer is to be served."""
    return any(word.split("=")[0].replace("_", "-") == HOST_OPTION for word in words)
