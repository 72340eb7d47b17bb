"""The built-in editor: a small InstructPix2Pix, its settings, and the code that trained and measured it."""
