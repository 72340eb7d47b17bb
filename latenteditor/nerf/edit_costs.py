"""What edits cost."""

from dataclasses import dataclass


@dataclass
class EditCosts:
    """What the edits of a scene have cost; a run that goes on from an edited one counts on from there."""

    survey_seconds: float = 0.0
    """Looking for what the prompt is about: scores of all views and, for the mask "field", the fit of the relevance."""
    relevance_seconds: float = 0.0
    """Of these, the fit of the relevance head and its rendering from all views."""
    edit_seconds: float = 0.0
    """Rendering, editing and replacing views."""
    view_edits: int = 0
    """Edits of single views in that time."""
    gpu_bytes: int = 0
    """The most GPU memory that tensors held at once; 0 without a GPU."""
