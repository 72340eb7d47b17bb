"""A prompt, what the rules make of it, and what they do not."""

from latenteditor.language.prompts import PromptSplitConfig, PromptSplitter
from latenteditor.language.prompts import load_splitter as load
from latenteditor.networks.language_model import load_language_model

PROMPT = "make the cone red and the cube blue"
PARTS = ["make the cone red", "make the cube blue"]
SWAPPED = ["make the cube blue", "make the cone red"]
"""What the rules do not say, so that it must come from the language model."""


def load_splitter(config: PromptSplitConfig) -> PromptSplitter:
    return load(config, load_language_model)
