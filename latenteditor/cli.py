"""The console command `latenteditor`: one line for each file of ``commands/``.

A file of ``commands/`` has a dataclass `Args`, whose fields are its options, and `main`, which takes them; one whose
defaults depend on other options has `parse_args` too. Nothing of it is imported before it is asked for.
"""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from latenteditor import __version__

COMMANDS = {
    "edit": "From photographs to a sharp edited scene, with pictures, a video and a report.",
    "preview": "What a prompt does to one photograph or view, before a scene is edited by it.",
    "evaluate": "What an edit came to: the edited scene against the unedited one.",
    "edit-photographs": "Photographs edited by a black box: your function, a server, a pipeline; as a dataset.",
    "write-dataset": "The edited photographs and masks of a run, as a dataset that any tool reads.",
    "finish": "A sharp scene of an edited run, by any method of nerfstudio: ordinary, and for ns-export too.",
    "edit-scene": "A recipe of configs/ from photographs to figures.",
    "demo": "A built-in world from photographs to an edited scene, measured against the truth.",
    "benchmark": "The methods against each other on built-in worlds, second by second.",
    "masks": "The mask of each view against the mask that all views agree on, on built-in worlds.",
    "prompts": "Prompts for several things, and edits in a row, on built-in worlds.",
    "world": "Writes a built-in world as a dataset, and the truth of an instruction about it.",
    "editors": "Which editors there are: what each needs, its licence, and what of it is at hand.",
    "editor train": "Trains the built-in editor.",
    "editor evaluate": "Measures an editor on single views whose truth is known.",
    "editor sweep": "Compares settings of the delta mask on single views whose region is known.",
    "editor samplers": "Compares samplers and their numbers of steps on single views whose truth is known.",
}
"""What each subcommand does, in a line; it lies in the file of ``commands/`` of its name."""


def main(words: Sequence[str] | None = None) -> None:
    """Runs a subcommand; ends the process with status 1 for what a user can mend, and with 2 for a word unknown."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    if words[0] == "--version":
        print(f"latenteditor {__version__}")
        return
    try:
        name, rest = split(words)
        module, args = parse(name, rest)
        module.main(args)
    except UnknownCommand as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError) as error:
        from latenteditor.nerf.one_line import wants_traceback

        if wants_traceback():
            raise
        sys.exit(f"Error: {_sentence(error)}")
    except KeyboardInterrupt:
        print("Interrupted: run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def _sentence(error: ValueError | OSError) -> str:
    """What a user can mend, as a line; a file that cannot be read or written is named."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f"{error.filename} cannot be read or written ({error.strerror}): make room there, or choose another place."


class UnknownCommand(ValueError):
    """There is no subcommand of a name."""


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the subcommand, and the words after it.

    Raises:
        UnknownCommand: There is none of this name; the error names one that is like it.
    """
    for name in COMMANDS:
        if list(words[: len(name.split())]) == name.split():
            return name, list(words[len(name.split()) :])
    asked = " ".join(words[:2]) if words[0] == "editor" else words[0]
    near = get_close_matches(asked, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(COMMANDS)} fits."
    raise UnknownCommand(f"There is no command {asked!r}: {hint}")


def parse(name: str, words: Sequence[str]) -> tuple[Any, Any]:
    """The file of a subcommand, and its options by the words after its name."""
    module: Any = importlib.import_module(f"latenteditor.commands.{name.replace(' ', '_').replace('-', '_')}")
    if hasattr(module, "parse_args"):
        return module, module.parse_args(words)
    import tyro

    return module, tyro.cli(module.Args, args=words, description=module.__doc__, prog=f"latenteditor {name}")


def run_renamed(old: str, new: str) -> None:
    """Runs the subcommand that a script has become, with the script's own words, and says its name."""
    print(f"{old} is now `latenteditor {new}`; this name goes with the next release.", file=sys.stderr)
    main([*new.split(), *sys.argv[1:]])


def overview() -> str:
    """The help of `latenteditor` itself."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: latenteditor COMMAND [OPTIONS]",
            "",
            "Edits captured 3D scenes by prompts. Reconstructing, editing, viewing and rendering are nerfstudio's own",
            "commands: ns-train latenteditor, ns-viewer, ns-render. This one is for what it has none for:",
            "",
            *(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()),
            "",
            "latenteditor COMMAND --help explains every option. latenteditor --version says which version this is.",
        ]
    )
