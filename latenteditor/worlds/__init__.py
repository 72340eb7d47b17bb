"""Built-in worlds: ray-traced solids with known answers, as datasets, with the truth of every instruction."""
