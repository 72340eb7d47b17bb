"""LatentEditor for Nerfstudio: edit a captured 3D scene by an instruction, in latent space.

What happens in which order, and in which file:

1. ``networks/autoencoder.py`` encodes each photograph once; ``nerf/latent_cache.py`` keeps the latents.
2. ``nerf/latent_nerfacto.py`` learns the scene, ``nerf/latent_model.py``, in latent space; ``nerf/adapter.py`` repairs
   what single rays cannot.
3. ``language/prompts.py`` splits the prompt, by ``language/rules.py`` or a language model; each instruction is a
   layer, ``editing/layers.py``.
4. ``editing/delta_mask.py`` asks ``networks/instruct_pix2pix.py`` where the instruction applies;
   ``nerf/relevance.py`` lets all views agree on it.
5. ``editing/editor.py`` edits a rendered view inside that mask.
6. ``editing/dataset_update.py`` replaces the view in the training set while the scene goes on training;
   ``nerf/edit_session.py`` says what is due, and ``nerf/edit_controls.py`` lets somebody steer that in the viewer.
7. The decoder is used to look: the viewer, ``ns-render``, ``ns-eval``.

``nerf/in2n.py`` is the baseline, Instruct-NeRF2NeRF: the same loop on images, with ``editing/pixel_editor.py``.
``recipes/`` reads the edits of ``configs/`` and runs them stage by stage; ``evaluation/`` measures what an edit came
to, and tries one on a single photograph; ``cli.py`` is the command `latenteditor`, with a file of ``commands/`` for
each subcommand.
``worlds/`` are built-in worlds with known answers, ``miniature/`` is a small InstructPix2Pix trained on them;
``benchmark/`` compares the methods there, second by second, and has the stages of the demo.
"""

__version__ = "0.1.0"
