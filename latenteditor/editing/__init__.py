"""How one view is edited, and how the edits reach the scene: the paper, readable without nerfstudio."""
