"""The built-in world: a ray-traced scene of solids with known answers, and a small editor trained on it."""
