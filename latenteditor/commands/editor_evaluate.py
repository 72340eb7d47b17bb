"""Measures an editor on single views of built-in worlds it never saw, and on photographs edited by a rule.

Writes figures.json, and pictures of the first cases: original, edit, truth and mask.
"""

from latenteditor.miniature.evaluation_run import EvaluationConfig as Args
from latenteditor.miniature.evaluation_run import evaluate_editor

__all__ = ["Args", "main"]


def main(args: Args) -> None:
    """Evaluates all cases, prints the means and writes everything."""
    evaluate_editor(args)
    print(f"Figures and pictures: {args.output}")
