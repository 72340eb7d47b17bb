from pathlib import Path

import pytest

from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import World, random_world

SIZE = 24


@pytest.fixture(scope="session")
def world() -> World:
    """Three solids."""
    return random_world(3, num_solids=3)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, world) -> Path:
    """Six training views and three held-out ones."""
    folder = tmp_path_factory.mktemp("world") / "dataset"
    write_dataset(folder, world, num_views=6, num_held_out=3, size=SIZE, seed=5)
    return folder
