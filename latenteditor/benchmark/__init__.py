"""The methods side by side on built-in worlds: what each makes of an edit, as a function of the seconds it has spent.

``settings.py`` says what is compared at which sizes and makes the config of every run, ``dense_scene.py`` is the scene
of colours, ``runs.py`` runs one of them in a process of its own, ``stopwatch.py`` counts what it costs, ``curves.py``
compares, ``report.py`` and ``plots.py`` say what came of it.
"""
