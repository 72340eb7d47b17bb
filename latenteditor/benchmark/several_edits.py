"""A built-in world edited more than once: two things by one prompt, or one after the other and one taken back.

Beside what every world's folder holds, see ``runs.py``, it gets ``several.png`` (rows: unedited scene, the edits in
their order, what it should look like; columns: held-out views).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latenteditor.benchmark.world_runs import WorldFolder, decay_flags, edit_flags
from latenteditor.pictures import grid, read_images, write_picture
from latenteditor.runs import Run, Say, run_stages
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.several import SolidViews, draw_recolourings, render_solid_views, solid_figures

PICTURE_COLUMNS = 6
Experiment = Literal["two", "sequence"]
"""Two solids recoloured by one prompt; or three, one after the other, and the second layer removed again."""
RUNS: dict[Experiment, dict[str, tuple[bool, ...]]] = {
    "two": {"split": (True, True), "whole": (True, True)},
    "sequence": {
        "first": (True, False, False),
        "second": (True, True, False),
        "third": (True, True, True),
        "removed": (True, False, True),
    },
}
"""The edited runs of an experiment, in their order, and which of its recolourings each should show."""
NUM_SOLIDS: dict[Experiment, int] = {"two": 2, "sequence": 3}
"""How many solids an experiment recolours."""


@dataclass(frozen=True)
class SeveralEdits:
    """What one world is edited by."""

    folder: WorldFolder
    experiment: Experiment
    instructions: list[Instruction]
    prompts: list[str]
    """Words for each instruction."""

    @property
    def prompt(self) -> str:
        """One prompt for all."""
        return " and ".join([self.prompts[0], *(words.removeprefix("make ") for words in self.prompts[1:])])

    @property
    def runs(self) -> dict[str, Run]:
        """The edited runs by name, in their order."""
        return {name: self.folder.edit(name) for name in RUNS[self.experiment]}

    @property
    def picture(self) -> Path:
        """Its picture."""
        return self.folder.path / "several.png"


def draw_edits(folder: WorldFolder, experiment: Experiment) -> SeveralEdits:
    """Draws what a world's solids become.

    Raises:
        ValueError: The world has too few solids.
    """
    drawn = draw_recolourings(folder.world, folder.seed, NUM_SOLIDS[experiment])
    return SeveralEdits(folder, experiment, [instruction for instruction, _ in drawn], [words for _, words in drawn])


def edit_several(edits: SeveralEdits, say: Say) -> dict[str, Any]:
    """One world from photographs to figures; stages that an interrupted run finished are not run again."""
    folder = edits.folder
    folder.begin(edits.prompt)
    seconds = run_stages(_stages(edits), folder.path / "seconds.json", "renders", say)
    views = render_solid_views(folder.data, edits.instructions)
    unedited = read_images(folder.renders(folder.reconstruction), views.names)
    rendered = {name: read_images(folder.renders(run), views.names) for name, run in edits.runs.items()}
    figures = {name: {"solids": figures_of_run(edits, name, views, unedited, rendered[name])} for name in edits.runs}
    for name, found in figures.items():
        say(lines_of_run(name, found["solids"]))
    rows = [unedited, *rendered.values(), views.truth]
    write_picture(edits.picture, grid([list(row[:PICTURE_COLUMNS]) for row in rows]))
    say(f"Picture: {edits.picture}")
    return {"seed": folder.seed, "prompt": edits.prompt, "runs": figures, "seconds": seconds}


def _stages(edits: SeveralEdits) -> dict[str, Callable[[], object]]:
    """What is done to a world, in this order."""
    folder, runs, base = edits.folder, edits.runs, edits.folder.reconstruction
    config = folder.config
    runs_in_a_row = 1 if edits.experiment == "two" else len(runs)
    decay = decay_flags(config.reconstruction_steps + runs_in_a_row * config.edit_steps)

    def edit(name: str, prompt: str, start: Run, *flags: object) -> Callable[[], object]:
        words = (*edit_flags(config, prompt, start), *flags, *decay)
        return lambda: folder.train(runs[name], config.edit_steps, *words)

    if edits.experiment == "two":
        work = {
            "split": edit("split", edits.prompt, base),
            "whole": edit("whole", edits.prompt, base, "--pipeline.split.splitter", "none"),
        }
    else:
        first, second, third = edits.prompts
        work = {
            "first": edit("first", first, base),
            "second": edit("second", second, runs["first"]),
            "third": edit("third", third, runs["second"]),
            "removed": edit("removed", "", runs["third"], "--pipeline.remove-layers", 2),
        }
    return {
        "photographs": folder.photograph,
        "reconstruction": lambda: folder.train(base, config.reconstruction_steps, *decay),
        **work,
        "renders": lambda: [folder.render_held_out(run) for run in (base, *runs.values())],
    }


def figures_of_run(
    edits: SeveralEdits, name: str, views: SolidViews, unedited: Any, rendered: Any
) -> dict[str, dict[str, float]]:
    """What became of each solid that the held-out views see, by the words about it."""
    solids = {
        words: solid_figures(rendered, unedited, views, instruction.solids[0], shown)
        for words, instruction, shown in zip(
            edits.prompts, edits.instructions, RUNS[edits.experiment][name], strict=True
        )
    }
    return {words: found for words, found in solids.items() if found}


def lines_of_run(name: str, solids: dict[str, dict[str, float]]) -> str:
    """One run, a line for each solid."""
    return "\n".join(
        f"  {name:8} {words:36} wanted {solid['psnr_wanted']:5.1f} dB, other {solid['psnr_other']:5.1f} dB, "
        f"before any edit {solid['psnr_unedited']:5.1f} dB{'' if solid['right'] else '   WRONG'}"
        for words, solid in solids.items()
    )
