"""Families of views: one camera, one world, one solid of it in many forms, each form an edit of each other.

A pair of views costs a ray trace or two; a dozen views of one family are more than a hundred pairs, all of whose
truths are known, and behind a solid that is taken away the floor is seen again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from tqdm.auto import tqdm

from latenteditor.miniature.parallel import num_processes, process_index, wait_for_all
from latenteditor.miniature.training_data import Pairs
from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import Instruction, idle_wording, word
from latenteditor.worlds.render import Camera, Hits, Tracer, dome_camera, look_at
from latenteditor.worlds.truth import VISIBLE_CHANGE
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES, World, random_world

FAMILIES_PER_FILE = 40
FAMILY_EDITS = 48
SMALLEST_SOLID = 0.012
"""Of a view: the least of the solid that takes many forms."""
FAMILY_SHARES = {
    "shape": 0.32,
    "colour and shape": 0.13,
    "material": 0.17,
    "colour and material": 0.07,
    "removal": 0.16,
    "colour": 0.10,
    "idle": 0.05,
}
"""How often a family asks for each kind of edit."""


class Relative(NamedTuple):
    """One view of a family."""

    picture: UInt8[np.ndarray, "height width 3"]
    ids: UInt8[np.ndarray, "height width"]
    """Per pixel the solid of its world, counted from 1."""
    world: World


class Relation(NamedTuple):
    """One view of a family as an edit of another."""

    before: int
    after: int
    region: Bool[np.ndarray, "height width"]
    instruction: str


@dataclass(frozen=True)
class Form:
    """What one solid is in one view; a solid without a shape is not there."""

    shape: str | None
    colour: str
    material: str


def family(seed: int, size: int, close: bool) -> tuple[list[Relative], list[Relation]]:
    """A dozen views that differ in one solid, and edits that lead from one to another.

    Args:
        seed: Of the world, the camera, the forms and the words.
        size: Pixels of either side.
        close: Looks at the solid through a field of view about half as wide. At half the pixels that costs a quarter,
            and shows the solid as a whole view of twice the size does.
    """
    world, rng = random_world(seed), np.random.default_rng((seed, 6))
    hits, index = _visible_solid(world, rng, size, close)
    forms = _forms(world, index, rng)
    relatives: list[Relative] = []
    pictures: list[Float[np.ndarray, "height width 3"]] = []
    traced: dict[str | None, Hits] = {world.solids[index].shape: hits}
    for form in forms:
        variant = _with_form(world, index, form)
        if form.shape not in traced:
            traced[form.shape] = Tracer(variant).trace(hits.camera)
        pictures.append(traced[form.shape].shade(variant))
        relatives.append(Relative(to_bytes(pictures[-1]), traced[form.shape].ids, variant))
    others = [solid.shape for position, solid in enumerate(world.solids) if position != index]
    edits = _possible_edits(forms, others)
    kinds = [kind for kind in FAMILY_SHARES if edits.get(kind)]
    shares = np.array([FAMILY_SHARES[kind] for kind in kinds])
    relations = []
    for _ in range(FAMILY_EDITS):
        choices = edits[kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]]
        before, after = choices[int(rng.integers(len(choices)))]
        old = relatives[before]
        if before == after:
            nowhere = np.zeros((size, size), dtype=bool)
            relations.append(Relation(before, after, nowhere, idle_wording(old.world, rng)))
            continue
        region = old.ids == index + 1
        if forms[before].shape != forms[after].shape:
            region = region | (np.abs(pictures[after] - pictures[before]).max(axis=-1) > VISIBLE_CHANGE)
        instruction = _instruction(index, forms[before], forms[after])
        relations.append(Relation(before, after, region, word(instruction, old.world, rng)))
    return relatives, relations


def write_families(path: Path, families: "list[tuple[list[Relative], list[Relation]]]") -> None:
    """Writes several families into one file."""
    relatives, relations = [], []
    for some_relatives, some_relations in families:
        first = len(relatives)
        relations += [edit._replace(before=edit.before + first, after=edit.after + first) for edit in some_relations]
        relatives += some_relatives
    np.savez(
        path,
        pictures=np.stack([relative.picture for relative in relatives]),
        shapes=np.stack([_classes(relative, "shape", list(SHAPES)) for relative in relatives]),
        colours=np.stack([_classes(relative, "colour", list(COLOURS)) for relative in relatives]),
        view=np.array([edit.before for edit in relations]),
        target=np.array([edit.after for edit in relations]),
        region=np.stack([edit.region for edit in relations]),
        instruction=np.array([edit.instruction for edit in relations]),
    )


def load_families(folder: Path, seeds: range, size: int, close: bool) -> Pairs:
    """Makes the families that are not on disk yet, each process some of the files, and reads all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(seeds.start, seeds.stop, FAMILIES_PER_FILE)
    files = [
        folder / f"families_{size}px_{first:06d}-{min(first + FAMILIES_PER_FILE, seeds.stop):06d}.npz"
        for first in starts
    ]
    mine = list(zip(files, starts, strict=True))[process_index() :: num_processes()]
    for file, first in tqdm(mine, desc=f"families, {size} px", unit="file", disable=process_index() > 0):
        if not file.exists():
            partial = file.with_name(f"partial_{file.name}")
            last = min(first + FAMILIES_PER_FILE, seeds.stop)
            write_families(partial, [family(seed, size, close) for seed in range(first, last)])
            partial.rename(file)
    wait_for_all()
    contents = [dict(np.load(file)) for file in files]
    offsets = np.cumsum([0, *(len(content["pictures"]) for content in contents)])
    for content, offset in zip(contents, offsets, strict=False):
        content["view"], content["target"] = content["view"] + offset, content["target"] + offset
    joined = {
        name: torch.from_numpy(np.concatenate([content.pop(name) for content in contents]))
        for name in ("pictures", "shapes", "colours", "view", "target", "region")
    }
    return Pairs(
        before=joined["pictures"],
        shapes=joined["shapes"],
        colours=joined["colours"],
        view=joined["view"],
        after=joined["pictures"],
        target=joined["target"],
        region=joined["region"].to(torch.uint8),
        instructions=[str(words) for content in contents for words in content["instruction"]],
    )


def _visible_solid(world: World, rng: np.random.Generator, size: int, close: bool) -> tuple[Hits, int]:
    """A view of a world, and a solid that is well seen in it."""
    tracer = Tracer(world)
    while True:
        if close:
            camera, chosen = _close_camera(world, rng, size)
        else:
            wide = rng.uniform() < 0.6
            field_of_view = np.radians(50 if wide else rng.uniform(30, 50))
            camera, chosen = dome_camera(rng, size, field_of_view=field_of_view, aim=0.15 if wide else 0.4), None
        hits = tracer.trace(camera)
        seen = [index for index in range(len(world.solids)) if (hits.ids == index + 1).mean() >= SMALLEST_SOLID]
        seen = [index for index in seen if chosen in (None, index)]
        if seen:
            return hits, seen[int(rng.integers(len(seen)))]


def _close_camera(world: World, rng: np.random.Generator, size: int) -> tuple[Camera, int]:
    """A camera as far away as others that looks near one solid through a narrow field of view; and the solid."""
    index = int(rng.integers(len(world.solids)))
    solid = world.solids[index]
    eye = dome_camera(rng, size).camera_to_world[:3, 3]
    aim = np.array([*solid.position, solid.size]) + rng.uniform(-0.25, 0.25, 3) * (1, 1, 0.6)
    return Camera(look_at(eye, aim), float(np.radians(rng.uniform(22, 33))), size), index


def _forms(world: World, index: int, rng: np.random.Generator) -> list[Form]:
    """Every shape in one colour and material, two shapes in three more looks each, and the solid taken away."""
    solid = world.solids[index]
    free = [colour for colour in COLOURS if colour not in {other.colour for other in world.solids}]
    new_colour = free[int(rng.integers(len(free)))]
    materials = [material for material in MATERIALS if material != solid.material]
    new_material = materials[int(rng.integers(len(materials)))]
    looks = [
        (solid.colour, solid.material),
        (new_colour, solid.material),
        (solid.colour, new_material),
        (new_colour, new_material),
    ]
    main = looks[int(rng.integers(len(looks)))]
    forms = [Form(shape, *main) for shape in SHAPES]
    second = SHAPES[int(rng.integers(len(SHAPES)))]
    for shape in dict.fromkeys((solid.shape, second)):
        forms += [Form(shape, *look) for look in looks if look != main]
    return [*forms, Form(None, *main)]


def _with_form(world: World, index: int, form: Form) -> World:
    """The world whose solid takes a form."""
    if form.shape is None:
        return Instruction((index,), removed=True).apply(world)
    instruction = Instruction((index,), colour=form.colour, shape=form.shape, material=form.material)
    return instruction.apply(world)


def _possible_edits(forms: list[Form], others: list[str]) -> dict[str, list[tuple[int, int]]]:
    """By kind, which form may be asked of which; a form whose shape another solid has cannot be named."""
    edits: dict[str, list[tuple[int, int]]] = {}
    for before, old in enumerate(forms):
        if old.shape is None or old.shape in others:
            continue
        edits.setdefault("idle", []).append((before, before))
        for after, new in enumerate(forms):
            changed = tuple(
                name for name in ("colour", "shape", "material") if getattr(old, name) != getattr(new, name)
            )
            kind = "removal" if new.shape is None else " and ".join(changed)
            if after != before and kind in FAMILY_SHARES:
                edits.setdefault(kind, []).append((before, after))
    return edits


def _instruction(index: int, old: Form, new: Form) -> Instruction:
    """What leads from one form to another."""
    if new.shape is None:
        return Instruction((index,), removed=True)
    return Instruction(
        (index,),
        colour=new.colour if new.colour != old.colour else None,
        shape=new.shape if new.shape != old.shape else None,
        material=new.material if new.material != old.material else None,
    )


def _classes(relative: Relative, field: str, names: list[str]) -> UInt8[np.ndarray, "height width"]:
    """Per pixel 0, or the solid's shape or colour counted from 1."""
    of_solid = [names.index(getattr(solid, field)) + 1 for solid in relative.world.solids]
    return np.array([0, *of_solid], dtype=np.uint8)[relative.ids]
