"""Measures an editor; see ``latenteditor.miniature.editor_evaluation`` for what is measured, and on what."""

import tyro

from latenteditor.miniature.editor_evaluation import EditorEvaluationConfig, evaluate_editor, group_lines

if __name__ == "__main__":
    try:
        figures = evaluate_editor(tyro.cli(EditorEvaluationConfig, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
    print(", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures["speed"].items()))
    for name, content in figures.items():
        if isinstance(content, dict) and "cases" in content:
            print("\n".join(group_lines(name, content)))
