"""The scene and its training, on nerfstudio."""
