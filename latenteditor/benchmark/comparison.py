"""The methods side by side: every world is learnt once in latents and once in colours, then edited by every method.

A comparison has a folder::

    results.json     everything
    points.csv       every measured point
    table.md         medians, the machine, the command
    overview.png     all edits at once; curves.png: each of them
    leakage.png      how far from the region each method has changed the scene
    SEED/world       the world's dataset
    SEED/latents     the run that learnt it in latents; SEED/colours: in colours
    SEED/PROMPT      the runs that edited it, and held-out.png, their views (rows: photographs, truth, methods in order)
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from latenteditor.benchmark.curves import Clock, Point
from latenteditor.benchmark.disagreement import write_disagreement
from latenteditor.benchmark.final_views import DistanceMap, FinalViews, final_views, read_views, write_leakage
from latenteditor.benchmark.jobs import PICTURE, Job
from latenteditor.benchmark.plots import COLOURS, write_overview, write_plot
from latenteditor.benchmark.quality import sharpness
from latenteditor.benchmark.report import BASELINE, Edit, machine, markdown, summarise, write_points
from latenteditor.benchmark.runs import run_job
from latenteditor.benchmark.settings import METHODS, BenchmarkConfig, MethodName, Representation, reconstruction_steps
from latenteditor.benchmark.world_runs import WorldFolder, require_editor
from latenteditor.devices import default_device, half_dtype
from latenteditor.figures import write_figures
from latenteditor.networks.perceptual import load_perceptual_distance
from latenteditor.pictures import grid, read_image, write_picture
from latenteditor.runs import Say
from latenteditor.worlds.dataset import truth_folder
from latenteditor.worlds.held_out import read_held_out
from latenteditor.worlds.oracle import OracleConfig, require_disagreement
from latenteditor.worlds.several import Kind, draw_prompts, draw_seeds


@dataclass
class ComparisonConfig(BenchmarkConfig):
    """Which methods, which worlds, which prompts."""

    output: Path = Path("outputs/benchmark")
    """Folder of everything, empty or new unless --resume is passed."""
    resume: bool = False
    """Goes on with what the folder holds: runs that ended are kept, and not run again."""
    methods: tuple[MethodName, ...] = (
        "latenteditor-sharp", "latenteditor", "in2n", "in2n-mask", "in2n-mask-waits", "alone",
    )  # fmt: skip
    """The contestants. Times to the same quality need in2n among them."""
    first_seed: int = 3_000_200
    """The first world; worlds with fewer solids than prompts are passed over. The built-in editor was trained on the
    worlds from 0 on, its settings chosen on those from 1,000,000 on."""
    num_worlds: int = 1
    """How many worlds to edit."""
    num_prompts: int = 1
    """Prompts of each kind for each world; each is about another solid, and each edit starts from the unedited
    scene."""
    kinds: tuple[Kind, ...] = ("recolour",)
    """What prompts ask for: another colour, material or shape of a solid, or that it is taken away. The truth follows.
    All kinds are about the same solids."""
    disagreements: tuple[float, ...] = ()
    """Lets one who knows the world make all edits, once for each of these: how far its views disagree, from 0, where
    every view is the truth, to 1, where hues are off by up to 120 degrees and sizes by up to 40 per cent. Written is
    disagreement.png as well. Empty: the editor of --edit.model makes them."""
    whole_picture: bool = False
    """Whether whole pictures disagree too: shifted, zoomed and lit."""
    tolerance: float = 0.5
    """What a method may lose outside the region against in2n's finished edit, in dB, to be as good as that."""
    clock: Clock = "seconds"
    """What the times in the table and the plot count; points.csv has both."""
    measure_lpips: Path | None = None
    """File with the weights of LPIPS, see in2n's --pipeline.model.lpips-weights, to measure finished edits with. None
    leaves LPIPS out."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""


def compare_methods(config: ComparisonConfig, command: str, say: Say) -> str:
    """Runs what has not been run yet, writes everything, and returns the table.

    Args:
        config: What to compare.
        command: What was typed, for whoever reads the results.
        say: Is told of each run as it ends.

    Raises:
        ValueError: Nothing would be compared, or the folder is not to be written to.
    """
    require_sizes(config)
    require_output(config)
    require_editor(config.edit)
    config.output.mkdir(parents=True, exist_ok=True)
    edits, results = [], []
    for seed in draw_seeds(config.first_seed, config.num_worlds, config.num_prompts):
        for edit, result in edit_world(config, seed, say):
            edits.append(edit)
            results.append(result)
    return write_results(config, command, edits, results)


def write_results(
    config: ComparisonConfig, command: str, edits: Sequence[Edit], results: Sequence[dict[str, Any]]
) -> str:
    """Writes what came of all runs, and returns the table."""
    rows, about = summarise(edits, config.tolerance, config.clock), machine()
    settings = {**asdict(config), "output": config.output.name}
    content = {"machine": about, "command": command, "settings": settings, "methods": rows, "runs": results}
    write_figures(config.output / "results.json", content)
    write_points(config.output / "points.csv", edits)
    write_plot(config.output / "curves.png", edits, config.tolerance, config.clock)
    if BASELINE in config.methods:
        write_overview(config.output / "overview.png", edits, config.clock)
    write_leakage(config.output / "leakage.png", _leakages(edits), COLOURS)
    if config.disagreements:
        write_disagreement(config.output / "disagreement.png", rows, config.clock)
    table = markdown(rows, about, command, notes(config, results), config.tolerance, config.clock)
    (config.output / "table.md").write_text(table)
    return table


def _leakages(edits: Sequence[Edit]) -> dict[str, list[Sequence[float]]]:
    """By method, how much each edit has changed around its region."""
    found: dict[str, list[Sequence[float]]] = {}
    for edit in edits:
        if edit.final is not None:
            found.setdefault(edit.method, []).append(edit.final.leakage)
    return found


def require_sizes(config: ComparisonConfig) -> None:
    """Refuses numbers with which nothing would be compared.

    Raises:
        ValueError: A number does not fit.
    """
    if not config.methods or len(set(config.methods)) < len(config.methods):
        raise ValueError(f"--methods must name each method once, not {' '.join(config.methods) or 'nothing'}.")
    for name in ("num_worlds", "num_prompts", "reconstruction_steps", "edit_steps", "steps_per_point"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(config, name)}.")
    for weights in (config.lpips_weights, config.measure_lpips):
        if weights is not None and not weights.is_file():
            raise ValueError(f"There are no weights of LPIPS {weights}: pass a file, or leave the option out.")
    if not config.kinds or len(set(config.kinds)) < len(config.kinds):
        raise ValueError(f"--kinds must name each kind once, not {' '.join(config.kinds) or 'nothing'}.")
    for oracle in oracles(config):
        if oracle is not None:
            require_disagreement(oracle)
    if config.disagreements and None in [METHODS[name] for name in config.methods]:
        raise ValueError("Views that are edited alone have none to disagree with: leave alone out of --methods.")


def require_output(config: ComparisonConfig) -> None:
    """Refuses a folder that holds something, unless that is to be resumed.

    Raises:
        ValueError: It does.
    """
    if not config.resume and config.output.is_dir() and any(config.output.iterdir()):
        raise ValueError(f"{config.output} is not empty: pass --resume to go on with it, or choose another --output.")


class Scenes:
    """One world's unedited scenes, each learnt when it is asked for first."""

    def __init__(self, config: ComparisonConfig, folder: WorldFolder, say: Say) -> None:
        """Learns nothing yet."""
        self._config, self._folder, self._say = config, folder, say
        self._learnt: dict[Representation, dict[str, Any]] = {}

    def path(self, representation: Representation) -> Path:
        """The folder of the run that learns it."""
        return self._folder.path / representation

    def learn(self, representation: Representation) -> dict[str, Any]:
        """What its run said."""
        if representation not in self._learnt:
            timed = representation == "colours" and self._config.budget == "seconds"
            budget = self.learn("latents")["seconds"] if timed else None
            job = Job(
                self._folder.data, self._config.device, plain_settings(self._config), reconstruct=representation,
                budget_seconds=budget,
            )  # fmt: skip
            found = self._learnt[representation] = run_job(job, self.path(representation))
            seed = self._folder.seed
            self._say(f"{seed} {representation:18} {found['seconds']:7.1f} s, {found['psnr']:.1f} dB")
        return self._learnt[representation]


def edit_world(config: ComparisonConfig, seed: int, say: Say) -> list[tuple[Edit, dict[str, Any]]]:
    """Every method's edit of one world by every prompt, and what its run said."""
    folder = WorldFolder((config.output / str(seed)).resolve(), seed, config, config.device)
    if not folder.data.exists():
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.photograph()
    scenes = Scenes(config, folder, say)
    edits = []
    for prompt in prompts(config, folder):
        truth = truth_folder(folder.data, prompt)
        if not (truth / "instruction.json").exists():
            folder.write_truth(prompt)
        for oracle in oracles(config):
            tasks = folder.path / truth.name / ("" if oracle is None else f"disagreement-{oracle.disagreement:g}")
            edits += [
                edit_by(name, config, folder, prompt, scenes, tasks / name, say, oracle) for name in config.methods
            ]
            rows = [tasks / name / PICTURE for name in config.methods]
            write_overview_of_views(tasks / "held-out.png", folder.data, prompt, rows)
    return edits


def oracles(config: ComparisonConfig) -> list[OracleConfig | None]:
    """What edits, one after the other: the oracle of each disagreement, or only the networks."""
    return [OracleConfig(share, config.whole_picture) for share in config.disagreements] or [None]


def prompts(config: ComparisonConfig, folder: WorldFolder) -> list[str]:
    """What one world is edited by, a kind after the other."""
    drawn = [draw_prompts(folder.world, folder.seed, kind, config.num_prompts) for kind in config.kinds]
    return [prompt for of_kind in drawn for _, prompt in of_kind]


def edit_by(
    name: MethodName,
    config: ComparisonConfig,
    folder: WorldFolder,
    prompt: str,
    scenes: Scenes,
    path: Path,
    say: Say,
    oracle: OracleConfig | None = None,
) -> tuple[Edit, dict[str, Any]]:
    """One method's edit, and what its run said, with what learning its scene cost."""
    method, seed = METHODS[name], folder.seed
    learnt = scenes.learn(method.representation) if method else {"seconds": None, "psnr": None}
    base = scenes.path(method.representation) if method else None
    latents = None
    if method is not None and method.finish == "edit":
        scenes.learn("latents")
        latents = scenes.path("latents")
    job = Job(folder.data, config.device, plain_settings(config), None, name, prompt, base, latents, oracle)
    result = run_job(job, path)
    final = _final_views(config, folder.data, prompt, path, base)
    edit = replace(
        read_edit(name, seed, prompt, result, learnt),
        sharpness=sharpness_of(path / PICTURE, folder.data, prompt),
        disagreement=oracle and oracle.disagreement,
        final=final,
    )
    last, about = edit.points[-1], "" if oracle is None else f", disagreement {oracle.disagreement:g}"
    say(f"{seed} {name:18} {last.seconds:7.1f} s, inside {last.inside:.1f} dB, outside {last.outside:.1f} dB{about}")
    return edit, {"method": name, "seed": seed, "prompt": prompt, "reconstruction": learnt, **final._asdict(), **result}


def _final_views(config: ComparisonConfig, world: Path, prompt: str, path: Path, base: Path | None) -> FinalViews:
    """What the pictures of a run and of its unedited scene tell; without a scene, photographs are what was edited."""
    views = read_held_out(world, prompt)
    count = len(views.photographs)
    unedited = views.photographs if base is None else read_views(base / PICTURE, count)
    return final_views(read_views(path / PICTURE, count), unedited, views, _lpips(config))


def _lpips(config: ComparisonConfig) -> DistanceMap | None:
    """LPIPS, where its weights are given."""
    if config.measure_lpips is None:
        return None
    return load_perceptual_distance(config.measure_lpips, "cpu").distance_map


def sharpness_of(picture: Path, data: Path, prompt: str) -> float:
    """How sharp the held-out views are inside the region in the picture that a run leaves."""
    views = read_held_out(data, prompt)
    row = read_image(picture)
    return sharpness(torch.stack(row.chunk(len(views.names), dim=2)), views)


def plain_settings(config: ComparisonConfig) -> BenchmarkConfig:
    """What all runs share, and nothing of which runs there are."""
    return BenchmarkConfig(**{entry.name: getattr(config, entry.name) for entry in fields(BenchmarkConfig)})


def read_edit(name: str, seed: int, prompt: str, result: dict[str, Any], learnt: dict[str, Any]) -> Edit:
    """An edit from the results of its run and of its scene's, where figures that are not there are null."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    points = tuple(Point(**{key: number(value) for key, value in point.items()}) for point in result["points"])
    names = ("setup_seconds", "seconds_per_view_edit", "peak_memory_mib", "peak_gpu_memory_mib")
    costs = {key: number(result[key]) for key in names}
    scene = {"reconstruction_seconds": number(learnt["seconds"]), "reconstruction_psnr": number(learnt["psnr"])}
    return Edit(name, seed, prompt, points, **costs, **scene)


def notes(config: ComparisonConfig, results: Sequence[dict[str, Any]]) -> list[str]:
    """What else a reader of the table has to know."""
    by_clock = config.budget == "seconds"
    colours = "as long as latents" if by_clock else f"{reconstruction_steps('colours', config)} steps"
    loads = [load for result in results for load in result["load_average"]]
    edit = config.edit
    return [
        f"{config.num_worlds} world(s) from seed {config.first_seed}, {config.num_prompts} prompt(s) each "
        f"({', '.join(config.kinds)}), "
        f"{config.num_views} training and {config.num_held_out} held-out views of {config.size}x{config.size} pixels.",
        f"Latents: {config.reconstruction_steps} steps of reconstruction. Colours: {colours}.",
        _note_on_in2n(config),
        f"All methods: editor {edit.model} in {_bits(config)} bits, noise {edit.min_noise} to "
        f"{edit.max_noise}, {edit.denoising_steps} denoising steps, guidance {edit.guidance.text} (text) and "
        f"{edit.guidance.image} (image), a view every {config.steps_per_edit} steps. `alone` edits each held-out "
        f"photograph alone, from noise {edit.max_noise}.",
        f"Threads per run: {max(result['threads'] for result in results)}; load average of the machine during the "
        f"runs: {min(loads):.1f} to {max(loads):.1f}.",
    ]


def _note_on_in2n(config: ComparisonConfig) -> str:
    """In what its runs differ from the published ones."""
    patch = f"{config.in2n_patch_size}x{config.in2n_patch_size}"
    lpips = f"LPIPS on patches of {patch}" if config.lpips_weights else "no LPIPS"
    tables = f"hash tables of 2^{config.in2n_log2_hashmap_size}"
    storage = "dense grids, as scenes of latents have," if config.in2n_encoding == "dense" else tables
    return (
        f"in2n: {config.in2n_rays} rays per step (published: 16,384), {config.in2n_proposal_samples} + "
        f"{config.in2n_samples} samples per ray (published: (256, 96) + 48), {config.in2n_levels} {storage} up to "
        f"{config.in2n_max_res} (published: 16 hash tables of 2^19 up to 2,048), {lpips} (published: LPIPS on 32x32), "
        "no camera optimizer, no appearance embedding."
    )


def write_overview_of_views(file: Path, data: Path, prompt: str, rows: Sequence[Path]) -> None:
    """The held-out views: photographs, truth, and what each method made of them."""
    views = read_held_out(data, prompt)
    known = [torch.cat(list(images), dim=2) for images in (views.photographs, views.truth)]
    write_picture(file, grid([[row] for row in (*known, *map(read_image, rows))]))


def _bits(config: ComparisonConfig) -> int:
    """Of the numbers that the editor computes in."""
    return torch.finfo(half_dtype(config.device)).bits if config.edit.half_precision else 32
