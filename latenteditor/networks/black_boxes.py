"""Where editors that are a black box come from: a function of Python, a diffusers pipeline, a server.

A name alone imports and loads nothing: only `load_black_box` does, and only an edit that was asked for calls it.
"""

import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latenteditor.devices import half_dtype
from latenteditor.editing.black_box import (
    BlackBox,
    Calls,
    NoPicture,
    is_address,
    is_function_name,
    with_references,
)
from latenteditor.networks.editors import FAMILIES
from latenteditor.networks.image_endpoint import EndpointConfig, ImageEndpoint, require_endpoint
from latenteditor.networks.models import read_model_file, resolve_model, why_unread

SEVERAL_PICTURES = ("Flux2Pipeline", "Flux2KleinPipeline", "QwenImageEditPlusPipeline")
"""Pipelines that take a list of pictures, of which the first is edited."""
MOST_REFERENCES = 4
"""Finished views that a function or a pipeline is shown, at most; our choice."""


def is_black_box(model: str) -> bool:
    """Whether an editor is used as a black box: a function, an address, or a pipeline of no known denoiser.

    Raises:
        ValueError: There is no such model.
    """
    if is_address(model) or is_function_name(model):
        return True
    index = read_model_file(model, "model_index.json")
    known = {pipeline for family in FAMILIES for pipeline in family.pipelines}
    return index is not None and index.get("_class_name") not in known


def require_black_box(model: str, endpoint: EndpointConfig) -> None:
    """Refuses, before hours of training, an editor that cannot be loaded; nothing is asked of one.

    Raises:
        ValueError: The function cannot be imported, or the server not be asked.
    """
    if is_address(model):
        require_endpoint(model, endpoint)
    elif is_function_name(model):
        PictureFunction(model, _import_function(model), Calls())


def load_black_box(
    model: str,
    calls: Calls,
    endpoint: EndpointConfig,
    device: torch.device | str,
    half_precision: bool = False,
    cpu_offload: bool = False,
    steps: int | None = None,
) -> BlackBox:
    """An editor that takes a picture and gives one.

    Args:
        model: `package.module:function`, the address of a server, or a hub id or folder of a diffusers pipeline.
        calls: Counts every call before it is made.
        endpoint: How a server is asked.
        device: Where a pipeline computes.
        half_precision: Lets a pipeline compute in 16-bit numbers.
        cpu_offload: Keeps a pipeline's weights in main memory.
        steps: Denoising steps of a pipeline; None takes its own number.

    Raises:
        ValueError: There is no such editor, or it takes no picture and prompt.
    """
    if is_address(model):
        return ImageEndpoint(model, endpoint, calls)
    if is_function_name(model):
        return PictureFunction(model, _import_function(model), calls)
    return PicturePipeline(model, _load_pipeline(model, device, half_precision, cpu_offload), calls, steps)


class PictureFunction:
    """A `BlackBox` of somebody's own: a function of a PIL image and a prompt that returns a PIL image.

    It is given `seed` and `references`, a list of PIL images, too, where it has parameters of these names.
    """

    def __init__(self, name: str, function: Callable[..., Any], calls: Calls) -> None:
        """Calls nothing yet.

        Raises:
            ValueError: The function takes no picture and prompt.
        """
        self._name, self._function, self._calls = name, function, calls
        parameters = inspect.signature(function).parameters
        try:
            inspect.signature(function).bind(None, "", **dict.fromkeys({"seed", "references"} & set(parameters)))
        except TypeError as error:
            raise ValueError(
                f"{name} cannot be called as function(image, prompt), with seed and references where it has them "
                f"({error}): give its other parameters defaults."
            ) from None
        self._options = {"seed", "references"} & set(parameters)
        self.identity = json.dumps([name, _digest(function)])
        self.most_references = MOST_REFERENCES if "references" in parameters else 0

    def edit_picture(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]],
    ) -> Float[Tensor, "3 _ _"]:
        """What the function returns.

        Raises:
            ValueError: It fails, or returns no picture.
        """
        self._calls.spend()
        given = {"seed": seed, "references": [to_pil(each) for each in references]}
        options = {name: value for name, value in given.items() if name in self._options}
        try:
            found = self._function(to_pil(picture), instruction, **options)
        except NoPicture:
            raise
        # Whatever goes wrong in somebody else's code is told as what it is.
        except Exception as error:
            raise ValueError(f"The editor {self._name} failed with {type(error).__name__}: {error}.") from error
        if not isinstance(found, Image.Image):
            raise ValueError(f"The editor {self._name} returned a {type(found).__name__}, and a PIL image is needed.")
        return from_pil(found)


class PicturePipeline:
    """A `BlackBox` that is a pipeline of diffusers."""

    def __init__(self, model: str, pipeline: Any, calls: Calls, steps: int | None = None) -> None:
        """Edits with the pipeline's own settings, but for the number of steps where it is given.

        Raises:
            ValueError: It takes no picture and prompt.
        """
        self._pipeline, self._calls, self._steps = pipeline, calls, steps
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        if not {"image", "prompt"} <= set(self._parameters):
            raise ValueError(
                f"'{model}' is a {type(pipeline).__name__}, which takes no picture with a prompt: pass a pipeline that "
                "edits pictures."
            )
        self.identity = json.dumps([model, type(pipeline).__name__, steps])
        self.most_references = MOST_REFERENCES if type(pipeline).__name__ in SEVERAL_PICTURES else 0

    def edit_picture(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]],
    ) -> Float[Tensor, "3 _ _"]:
        """The pipeline's first picture.

        Raises:
            NoPicture: It is one constant, as safety checkers leave it.
        """
        self._calls.spend()
        pictures = [to_pil(each) for each in (picture, *references)]
        options: dict[str, Any] = {} if self._steps is None else {"num_inference_steps": self._steps}
        with torch.no_grad():
            made = self._pipeline(
                image=pictures if self.most_references else pictures[0],
                prompt=with_references(instruction, len(references)),
                generator=torch.Generator().manual_seed(seed),
                output_type="pil",
                **options,
            )
        found = from_pil(made.images[0])
        if float(found.std()) == 0.0:
            raise NoPicture("its picture is one constant")
        return found


def to_pil(picture: Float[Tensor, "3 height width"]) -> Image.Image:
    """A picture as most libraries take it."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def from_pil(picture: Image.Image) -> Float[Tensor, "3 height width"]:
    """A picture in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def _import_function(name: str) -> Callable[..., Any]:
    """A function by its name; its module may lie in the folder where the command was typed."""
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    # Importing runs somebody else's code, which may fail in any way.
    except Exception as error:
        raise ValueError(
            f"The module of the editor {name} cannot be imported ({type(error).__name__}: {error}): install it, or "
            "type the command in its folder."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise ValueError(f"The module {module} has no function {attribute!r}: pass package.module:function.")
    return function


def _digest(function: Callable[..., Any]) -> str:
    """Changes when the file of a function does."""
    try:
        file = inspect.getsourcefile(function)
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


def _load_pipeline(model: str, device: torch.device | str, half_precision: bool, cpu_offload: bool) -> Any:
    """A pipeline of diffusers itself; code that a model brings with it is not run."""
    index = read_model_file(model, "model_index.json")
    if index is None:
        raise ValueError(
            f"'{model}' is no pipeline in the diffusers format: there is no model_index.json; pass another editor."
        )
    import diffusers

    class_name = str(index.get("_class_name"))
    pipeline_class: Any = getattr(diffusers, class_name, None)
    if pipeline_class is None:
        raise ValueError(
            f"'{model}' is a {class_name}, which diffusers {diffusers.__version__} does not have: upgrade diffusers or "
            "pass another editor."
        )
    dtype = half_dtype(device, overflows_in_half=True) if half_precision else torch.float32
    try:
        pipeline = pipeline_class.from_pretrained(resolve_model(model), torch_dtype=dtype)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The pipeline '{model}' could not be read ({why_unread(error)}): download it again."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if cpu_offload and torch.device(device).type != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
