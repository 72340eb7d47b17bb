"""Measures an editor on single views of built-in worlds it never saw, and on photographs edited by a rule.

Writes figures.json, a sheet of five edits of each kind, and pictures of the first cases of each group.
"""

from latenteditor.miniature.editor_evaluation import EditorEvaluationConfig as Args
from latenteditor.miniature.editor_evaluation import evaluate_editor, group_lines

__all__ = ["Args", "main"]


def main(args: Args) -> None:
    """Evaluates all cases, writes everything, and shows the means."""
    figures = evaluate_editor(args)
    print(", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures["speed"].items()))
    for name, content in figures.items():
        if isinstance(content, dict) and "cases" in content:
            print("\n".join(group_lines(name, content)))
    print(f"Figures and pictures: {args.output}")
