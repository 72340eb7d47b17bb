"""What nerfstudio sees of this package: its entry points, their options, and what importing them costs."""

import dataclasses
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from nerfstudio.plugins.types import MethodSpecification

from latenteditor import methods

METHODS = (
    "latent-nerfacto",
    "dense-nerfacto",
    "latenteditor",
    "latenteditor-small",
    "latenteditor-tiny",
    "in2n",
    "in2n-small",
    "in2n-tiny",
)
NERFSTUDIO_ONLY = {"_target"}
"""Fields that are no options."""


def specifications() -> dict[str, MethodSpecification]:
    found = entry_points(group="nerfstudio.method_configs")
    return {point.name: point.load() for point in found if point.value.startswith("latenteditor.")}


def own_options() -> list[tuple[type, str]]:
    """Every field that a dataclass of this package declares and a command line can set."""
    options, seen = [], set()

    def visit(config: Any) -> None:
        for kind in type(config).__mro__:
            own = kind.__module__.startswith("latenteditor.") and dataclasses.is_dataclass(kind)
            if own and kind not in seen:
                seen.add(kind)
                names = set(kind.__dict__.get("__annotations__", {})) - NERFSTUDIO_ONLY
                options.extend((kind, name) for name in sorted(names))
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                visit(value)

    for specification in specifications().values():
        visit(specification.config)
    return options


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_entry_point_loads_the_method_of_its_name():
    found = specifications()
    assert set(found) == set(METHODS)
    for name, specification in found.items():
        assert isinstance(specification, MethodSpecification)
        assert specification.config.method_name == name
        assert specification.description.startswith("Instruct-NeRF2NeRF" if "in2n" in name else "LatentEditor")


def test_methods_of_one_file_share_nothing_that_can_change():
    one, other = methods.latenteditor.config, methods.latenteditor_small.config
    assert one.pipeline is not other.pipeline
    assert one.pipeline.edit is not other.pipeline.edit  # type: ignore[attr-defined]
    assert one.pipeline.datamanager is not other.pipeline.datamanager
    assert one.optimizers is not other.optimizers


def test_the_walk_over_options_reaches_every_part():
    kinds = {kind.__name__ for kind, _ in own_options()}
    assert kinds >= {
        "EditConfig",
        "Guidance",
        "DeltaMaskConfig",
        "EditScheduleConfig",
        "LatentDataManagerConfig",
        "LatentNerfactoModelConfig",
        "LatentNerfactoPipelineConfig",
        "EditingConfig",
        "ImageDataManagerConfig",
        "In2nModelConfig",
        "In2nPipelineConfig",
    }


@pytest.mark.parametrize(("kind", "name"), own_options(), ids=lambda value: getattr(value, "__name__", value))
def test_every_own_option_says_what_it_is(kind, name):
    from tyro._docstrings import get_field_docstring

    shown = get_field_docstring(kind, name, markers=())
    assert shown, f"{kind.__name__}.{name} has no help text"
    assert shown.strip().endswith("."), f"{kind.__name__}.{name}: {shown}"


def test_every_method_is_set_from_a_command_line():
    # In a process of its own, because the host's configs do not pass the checks of types at run time.
    finished = run(
        """
import tyro
from latenteditor import methods
flags = ["--max-num-iterations", "7", "--pipeline.model.adapter", "False"]
flags += ["--pipeline.edit.prompt", "make it red", "--pipeline.edit.delta-mask.threshold", "0.3"]
for specification in (methods.latenteditor, methods.latenteditor_small, methods.latenteditor_tiny):
    config = specification.config
    parsed = tyro.cli(type(config), args=flags, default=config, config=(tyro.conf.FlagConversionOff,))
    edit = parsed.pipeline.edit
    print([parsed.max_num_iterations, parsed.pipeline.model.adapter, edit.prompt, edit.delta_mask.threshold])
"""
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-3:] == ["[7, False, 'make it red', 0.3]"] * 3


@pytest.mark.parametrize("name", METHODS)
def test_every_method_survives_the_file_nerfstudio_keeps_of_it(name, tmp_path):
    config = specifications()[name].config
    path = tmp_path / "config.yml"
    path.write_text(yaml.dump(config), "utf8")
    loaded = yaml.load(path.read_text(), Loader=yaml.Loader)
    assert loaded == config
    assert type(loaded.pipeline) is type(config.pipeline)
    assert loaded.pipeline._target is config.pipeline._target


def test_importing_the_methods_imports_no_diffusion_library():
    # The host's metrics look into transformers on their own, so what is counted is what comes on top.
    finished = run(
        "import sys, nerfstudio.models.nerfacto, nerfstudio.engine.trainer, nerfstudio.pipelines.base_pipeline\n"
        "before = set(sys.modules)\n"
        "import latenteditor.methods\n"
        "added = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "sys.exit(' '.join({'diffusers', 'transformers', 'accelerate'} & added | {'diffusers'} & before) or 0)"
    )
    assert finished.returncode == 0, finished.stderr


def test_the_methods_are_there_even_where_diffusion_libraries_cannot_be_imported():
    finished = run(
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['diffusers', 'transformers', 'accelerate']))\n"
        "from latenteditor import methods\n"
        "print(methods.latenteditor.config.method_name)"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().endswith("latenteditor")
