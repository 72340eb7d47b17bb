"""The viewer's boxes, sliders and buttons, with which an edit is steered while it runs.

They write into the edit's config, which everything reads anew, and call the session's actions. The host holds the lock
of training and rendering while one of their callbacks runs, so that nothing here meets a step or a frame half way.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerControl,
    ViewerDropdown,
    ViewerElement,
    ViewerNumber,
    ViewerParameter,
    ViewerSlider,
    ViewerText,
)
from PIL import Image
from torch import nn

from latenteditor.nerf.edit_session import EditSession

NO_LAYER = "none"
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~&!$])")
"""What has a meaning in the viewer's markdown, which takes braces and angle brackets for program text."""


class Notes(ViewerElement[str]):
    """Text, and pictures, that the viewer shows."""

    def __init__(self, content: str) -> None:
        """Shows `content`, in markdown, until it is replaced."""
        super().__init__("", cb_hook=lambda _: None)
        self._content, self._picture = content, ""
        self._folder = tempfile.TemporaryDirectory(prefix="latenteditor-viewer-")

    @property
    def content(self) -> str:
        """The text that is shown."""
        return self._content

    @property
    def _markdown(self) -> str:
        """Text and picture as the viewer reads them."""
        return MARKUP.sub(r"\\\1", self._content) + self._picture

    def show(self, text: str, picture: Float[np.ndarray, "height width 3"] | None = None) -> None:
        """Shows a text, and a picture with values in [0, 1]."""
        self._content, self._picture = text, ""
        if picture is not None:
            path = Path(self._folder.name) / "preview.png"
            Image.fromarray((255 * picture.clip(0, 1)).round().astype(np.uint8)).save(path)
            self._picture = f"\n\n![preview]({path.name})"
        if self.gui_handle is not None:
            handle: Any = self.gui_handle
            handle.content = self._markdown

    def install(self, viser_server: Any) -> None:
        """Called by the host when the viewer starts."""
        self._create_gui_handle(viser_server)

    def _create_gui_handle(self, viser_server: Any) -> None:
        self.gui_handle = viser_server.gui.add_markdown(self._markdown, image_root=Path(self._folder.name))


class Notices:
    """The two lines of the controls: how far the edit has come, and what came of what was done last."""

    def __init__(self) -> None:
        """Starts with what to do first."""
        self.progress = Notes("No view was edited yet.")
        self.outcome = Notes("Type a prompt, preview it on this view, then start.")

    def show_progress(self, text: str) -> None:
        """Shows how far the edit has come; what was said last stays."""
        self.progress.show(text)

    def say(self, text: str) -> None:
        """Shows what came of what was done."""
        self.outcome.show(text)


class EditControls(nn.Module):
    """The controls of one edit; a module without weights, since that is where the host looks for controls."""

    def __init__(self, session: EditSession, notices: Notices, masks: Sequence[str], composite: Any = None) -> None:
        """Builds the controls.

        Args:
            session: What they call; its settings are what they write into.
            notices: The lines they show.
            masks: The kinds of mask that can be chosen.
            composite: A config with an option `composite`, where the scene can be shown so.
        """
        super().__init__()
        self.camera = ViewerControl()
        self._session = session
        self._notices = notices
        self._boxes: list[Callable[[], None]] = []
        self._refreshes: list[Callable[[], None]] = []
        self._layer = ViewerDropdown("layer", NO_LAYER, [NO_LAYER], hint="Edits, the lowest first")
        prompt, *settings = self._make_boxes(masks, composite)
        # The lines lie below the buttons, which would move away from under the mouse as these grow and shrink.
        elements = [prompt, *self._make_buttons(), notices.progress, notices.outcome, *settings]
        # The host finds controls among attributes, and shows them in the order of their names.
        for index, element in enumerate(elements):
            setattr(self, f"control_{index:02d}", element)

    def _make_buttons(self) -> list[ViewerElement[Any]]:
        """What somebody can do, and the layer it is done to."""
        session = self._session
        return [
            ViewerButton("Preview on this view", self._act(self._preview)),
            ViewerButton("Start", self._act(session.start)),
            ViewerButton("Pause editing", self._act(session.pause)),
            ViewerButton("Edit every view now", self._act(session.edit_every_view)),
            ViewerButton("Reset to original", self._act(session.reset)),
            self._layer,
            ViewerButton("Switch layer on / off", self._act(lambda: self._on_layer(session.switch_layer))),
            ViewerButton("Remove layer", self._act(lambda: self._on_layer(session.remove_layer))),
        ]

    def _make_boxes(self, masks: Sequence[str], composite: Any) -> list[ViewerElement[Any]]:
        """The prompt and the settings."""
        edit = self._session.config.edit
        guidance, mask = edit.guidance, edit.delta_mask
        share = {"min_value": 0.0, "max_value": 1.0, "step": 0.01}
        boxes: list[ViewerElement[Any]] = [
            self._box(ViewerText, "prompt", edit, "prompt", "What to change, as in: turn the bear into a panda"),
            self._box(ViewerNumber, "text guidance", guidance, "text", "How strongly the edit follows the prompt"),
            self._box(ViewerNumber, "image guidance", guidance, "image", "How strongly it keeps to the view before it"),
            self._box(
                ViewerDropdown, "mask", edit, "mask", "Each view's own, or what all agree on in 3D", options=list(masks)
            ),
            self._box(ViewerSlider, "threshold", mask, "threshold", "Down: more of the view may change", **share),
            self._box(ViewerSlider, "Δt", mask, "noise_level", "Noise at which relevance is measured", **share),
            self._box(ViewerSlider, "least noise", edit, "min_noise", "Up: every edit changes more", **share),
            self._box(ViewerSlider, "most noise", edit, "max_noise", "Down: closer to the scene as it is now", **share),
        ]
        if composite is not None:
            hint = "Shows the unedited scene outside the region; needs the mask 'field'"
            boxes.append(self._box(ViewerCheckbox, "original outside", composite, "composite", hint))
        return boxes

    def say(self, text: str) -> None:
        """Shows a line, and the layers as they are now."""
        self._notices.say(text)
        self.list_layers()

    def show_settings(self) -> None:
        """Shows the settings as they are now, where something else than a box has set them."""
        for refresh in self._refreshes:
            refresh()

    def list_layers(self) -> None:
        """Shows the layers as they are now."""
        layers = self._session.layers.layers
        # The box is narrow: what matters comes first.
        names = [f"{layer.number} {'on' if layer.active else 'off'}: {layer.instruction}" for layer in layers]
        if (names or [NO_LAYER]) == self._layer.options:
            return
        chosen = _number(self._layer.value)
        self._layer.set_options(names or [NO_LAYER])
        self._layer.value = next((name for name in names if _number(name) == chosen), (names or [NO_LAYER])[-1])

    def _box(
        self, kind: Callable[..., ViewerParameter], label: str, owner: Any, name: str, hint: str, **options: Any
    ) -> ViewerParameter:
        """A control that writes its value into a config, or says why it cannot."""

        def shown() -> Any:
            """What the box shows of the config: no threshold edits every cell, as the lowest one nearly does."""
            return 0.0 if getattr(owner, name) is None else getattr(owner, name)

        def take() -> None:
            before, value = getattr(owner, name), element.value
            if value == shown():
                return
            setattr(owner, name, value)
            try:
                self._session.check_edit()
            except ValueError:
                setattr(owner, name, before)
                element.value = shown()
                raise
            self._session.save_settings()

        element = kind(label, default_value=shown(), cb_hook=self._tell(take), hint=hint, **options)
        self._boxes.append(take)
        self._refreshes.append(lambda: setattr(element, "value", shown()))
        return element

    def _act(self, action: Callable[[], str | None]) -> Callable[[Any], None]:
        """A button's callback, which acts by what the boxes show: theirs may still be waiting for the lock."""

        def act() -> str | None:
            for take in self._boxes:
                take()
            return action()

        return self._tell(act)

    def _tell(self, action: Callable[[], str | None]) -> Callable[[Any], None]:
        """A callback: what the action says, or why it cannot."""

        def tell(_: Any) -> None:
            try:
                said = action()
            except ValueError as error:
                said = str(error)
            except Exception as error:
                self.say(f"{type(error).__name__}: {error}")
                raise
            if said is not None:
                self.say(said)

        return tell

    def _preview(self) -> None:
        """Shows the edit of the view in front of the camera."""
        clients = self.camera.viser_server.get_clients()
        if not clients:
            return
        aspect = next(iter(clients.values())).camera.aspect
        size = self._session.scene.image_size
        camera = self.camera.get_camera(round(size / max(aspect, 1.0)), round(size * min(aspect, 1.0)))
        assert camera is not None
        self._notices.say("The view is being edited ...")
        picture, said = self._session.preview(camera)
        self._notices.outcome.show(said, picture.cpu().numpy())

    def _on_layer(self, action: Callable[[int], str]) -> str:
        """Acts on the layer that is chosen."""
        number = _number(self._layer.value)
        return "There is no layer yet." if number is None else action(number)


def _number(name: str) -> int | None:
    """The number a layer's name starts with."""
    head = name.split(maxsplit=1)[0]
    return int(head) if head.isdigit() else None
