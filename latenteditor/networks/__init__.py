"""The frozen networks. The only folder that imports diffusers and transformers, inside the functions that load them."""
