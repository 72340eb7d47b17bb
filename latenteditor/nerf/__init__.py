"""The scene and its training: the only package, with ``methods.py``, that imports nerfstudio."""
