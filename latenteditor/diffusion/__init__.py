"""The frozen networks: the only package that imports diffusers and transformers, inside its loading functions."""
