"""Compares this package's methods on built-in worlds: what each makes of an edit after how many seconds.

Every world is photographed and learnt once in latents and once in colours; every method then edits it by every prompt,
which recolours one solid. Edits are measured on held-out views against the truth with the clock stopped. Each run has a
process of its own. Written are results.json, points.csv, table.md, overview.png of all edits, curves.png of each, and a
picture of the held-out views for each edit (rows: photographs, truth, methods in their order). With --resume, the same
command goes on where it was interrupted, and may then have further worlds, prompts and methods.
"""

import math
import shlex
import sys
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
import tyro

from latenteditor.benchmark.curves import Clock, Point
from latenteditor.benchmark.plots import write_overview, write_plot
from latenteditor.benchmark.report import BASELINE, Edit, machine, markdown, summarise, write_points
from latenteditor.benchmark.runs import PICTURE, Job, read_held_out, run_job
from latenteditor.benchmark.settings import METHODS, BenchmarkConfig, MethodName, Representation, reconstruction_steps
from latenteditor.figures import write_figures
from latenteditor.worlds.dataset import truth_folder, write_dataset, write_truth
from latenteditor.worlds.several import draw_recolourings
from latenteditor.worlds.world import random_world

say = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass
class Args(BenchmarkConfig):
    """Which methods, which worlds, which prompts."""

    output: Path = Path("outputs/benchmark")
    """Folder of everything."""
    resume: bool = False
    """Goes on with what the folder holds: runs that ended are kept, and not run again."""
    methods: tuple[MethodName, ...] = ("latenteditor", "latenteditor-field", "in2n", "in2n-mask", "alone")
    """The contestants. Times to the same quality need in2n among them."""
    first_seed: int = 3_000_200
    """The first world; worlds with fewer solids than prompts are passed over. The built-in editor was trained on the
    worlds from 0 on, its settings chosen on those from 1,000,000 on."""
    num_worlds: int = 1
    """Worlds to edit."""
    num_prompts: int = 1
    """Prompts for each world; each recolours another solid, and each edit starts from the unedited scene."""
    tolerance: float = 0.5
    """What a method may lose outside the region against in2n's finished edit, in dB, to be as good as that."""
    clock: Clock = "seconds"
    """What the times in the table and the plot count; points.csv has both."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""


def main(args: Args) -> None:
    """Runs what has not been run yet, and reports on everything."""
    require_sizes(args)
    require_output(args)
    args.output.mkdir(parents=True, exist_ok=True)
    edits, results = [], []
    for seed in draw_seeds(args.first_seed, args.num_worlds, args.num_prompts):
        for edit, result in edit_world(args, seed):
            edits.append(edit)
            results.append(result)
    rows, about = summarise(edits, args.tolerance, args.clock), machine()
    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    settings = {**asdict(args), "output": args.output.name}
    content = {"machine": about, "command": command, "settings": settings, "methods": rows, "runs": results}
    write_figures(args.output / "results.json", content)
    write_points(args.output / "points.csv", edits)
    write_plot(args.output / "curves.png", edits, args.tolerance, args.clock)
    if BASELINE in args.methods:
        write_overview(args.output / "overview.png", edits, args.clock)
    table = markdown(rows, about, command, notes(args, results), args.tolerance, args.clock)
    (args.output / "table.md").write_text(table)
    say(f"\n{table}\nWritten to {args.output}.")


def require_sizes(args: Args) -> None:
    """Refuses numbers with which nothing would be compared.

    Raises:
        ValueError: A number does not fit.
    """
    if not args.methods or len(set(args.methods)) < len(args.methods):
        raise ValueError(f"--methods must name each method once, not {' '.join(args.methods) or 'nothing'}.")
    for name in ("num_worlds", "num_prompts", "reconstruction_steps", "edit_steps", "steps_per_point"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}.")
    if args.lpips_weights is not None and not args.lpips_weights.is_file():
        raise ValueError(f"There are no weights of LPIPS {args.lpips_weights}: pass a file, or leave the option out.")


def require_output(args: Args) -> None:
    """Refuses a folder that holds something, unless that is to be resumed.

    Raises:
        ValueError: It does.
    """
    if not args.resume and args.output.is_dir() and any(args.output.iterdir()):
        raise ValueError(f"{args.output} is not empty: pass --resume to go on with it, or choose another --output.")


def draw_seeds(first_seed: int, count: int, num_solids: int) -> list[int]:
    """The first worlds with at least that many solids.

    Raises:
        ValueError: No world has so many.
    """
    seeds: list[int] = []
    for seed in range(first_seed, first_seed + 1000 * count):
        if len(seeds) < count and len(random_world(seed).solids) >= num_solids:
            seeds.append(seed)
    if len(seeds) < count:
        raise ValueError(f"Worlds have fewer than {num_solids} solids: lower --num-prompts.")
    return seeds


def edit_world(args: Args, seed: int) -> list[tuple[Edit, dict[str, Any]]]:
    """Every method's edit of one world by every prompt, and what its run said."""
    folder = (args.output / str(seed)).resolve()
    settings = BenchmarkConfig(**{entry.name: getattr(args, entry.name) for entry in fields(BenchmarkConfig)})
    data, world = folder / "world", random_world(seed)
    prompts = [prompt for _, prompt in draw_recolourings(world, seed, args.num_prompts)]
    if not data.exists():
        partial = folder / "world.partial"
        write_dataset(partial, world, args.num_views, args.num_held_out, args.size, seed)
        partial.rename(data)
    reconstructions: dict[Representation, dict[str, Any]] = {}

    def reconstruct(representation: Representation) -> dict[str, Any]:
        if representation not in reconstructions:
            timed = representation == "colours" and args.budget == "seconds"
            budget = reconstruct("latents")["seconds"] if timed else None
            job = Job(data, args.device, settings, reconstruct=representation, budget_seconds=budget)
            found = reconstructions[representation] = run_job(job, folder / representation)
            say(f"{seed} {representation:18} {found['seconds']:7.1f} s, {found['psnr']:.1f} dB")
        return reconstructions[representation]

    edits = []
    for prompt in prompts:
        if not (truth_folder(data, prompt) / "instruction.json").exists():
            write_truth(data, prompt)
        tasks = folder / truth_folder(data, prompt).name
        for name in args.methods:
            method = METHODS[name]
            learnt = reconstruct(method.representation) if method else {"seconds": None, "psnr": None}
            base = folder / method.representation if method else None
            job = Job(data, args.device, settings, method=name, prompt=prompt, base=base)
            result = run_job(job, tasks / name)
            edit = read_edit(name, seed, prompt, result, learnt)
            edits.append((edit, {"method": name, "seed": seed, "prompt": prompt, "reconstruction": learnt, **result}))
            last = edit.points[-1]
            say(f"{seed} {name:18} {last.seconds:7.1f} s, inside {last.inside:.1f} dB, outside {last.outside:.1f} dB")
        write_picture(tasks / "held-out.png", data, prompt, [tasks / name / PICTURE for name in args.methods])
    return edits


def read_edit(name: str, seed: int, prompt: str, result: dict[str, Any], learnt: dict[str, Any]) -> Edit:
    """An edit from the results of its run and of its scene's, where figures that are not there are null."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    points = tuple(Point(**{key: number(value) for key, value in point.items()}) for point in result["points"])
    names = ("setup_seconds", "seconds_per_view_edit", "peak_memory_mib", "peak_gpu_memory_mib")
    costs = {key: number(result[key]) for key in names}
    scene = {"reconstruction_seconds": number(learnt["seconds"]), "reconstruction_psnr": number(learnt["psnr"])}
    return Edit(name, seed, prompt, points, **costs, **scene)


def notes(args: Args, results: list[dict[str, Any]]) -> list[str]:
    """What else a reader of the table has to know."""
    lpips = f"LPIPS on patches of {args.in2n_patch_size}x{args.in2n_patch_size}" if args.lpips_weights else "no LPIPS"
    by_clock = args.budget == "seconds"
    colours = "as long as latents" if by_clock else f"{reconstruction_steps('colours', args)} steps"
    loads = [load for result in results for load in result["load_average"]]
    tables = f"hash tables of 2^{args.in2n_log2_hashmap_size}"
    storage = "dense grids, as scenes of latents have," if args.in2n_encoding == "dense" else tables
    edit = args.edit
    return [
        f"{args.num_worlds} world(s) from seed {args.first_seed}, {args.num_prompts} prompt(s) each, {args.num_views} "
        f"training and {args.num_held_out} held-out views of {args.size}x{args.size} pixels.",
        f"Latents: {args.reconstruction_steps} steps of reconstruction. Colours: {colours}.",
        f"in2n: {args.in2n_rays} rays per step (published: 16,384), {args.in2n_proposal_samples} + {args.in2n_samples} "
        f"samples per ray (published: (256, 96) + 48), {args.in2n_levels} {storage} up to {args.in2n_max_res} "
        f"(published: 16 hash tables of 2^19 up to 2,048), {lpips} (published: LPIPS on 32x32), no camera optimizer, "
        "no appearance embedding.",
        f"All methods: editor {edit.model} in {16 if edit.half_precision else 32} bits, noise {edit.min_noise} to "
        f"{edit.max_noise}, {edit.denoising_steps} denoising steps, guidance {edit.guidance.text} (text) and "
        f"{edit.guidance.image} (image), a view every {args.steps_per_edit} steps. `alone` edits each held-out "
        f"photograph alone, from noise {edit.max_noise}.",
        f"Threads per run: {max(result['threads'] for result in results)}; load average of the machine during the "
        f"runs: {min(loads):.1f} to {max(loads):.1f}.",
    ]


def write_picture(file: Path, data: Path, prompt: str, rows: list[Path]) -> None:
    """The held-out views: photographs, truth, and what each method made of them."""
    views = read_held_out(data, prompt)
    known = [
        (torch.cat(list(images), dim=2) * 255).byte().movedim(0, -1) for images in (views.photographs, views.truth)
    ]
    iio.imwrite(file, np.concatenate([*(row.numpy() for row in known), *(iio.imread(row) for row in rows)]))


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
