"""The instructions in the prompts of one scene's edit."""

from latenteditor.language.prompts import MAX_INSTRUCTIONS, PromptSplitConfig, PromptSplitter, load_splitter
from latenteditor.language.rules import keep_whole
from latenteditor.networks.language_model import load_language_model


class PromptReader:
    """Splits prompts, each of them once: a language model may answer otherwise another time."""

    def __init__(self, config: PromptSplitConfig) -> None:
        """Splits as the config says; what splits is loaded when there is a prompt."""
        self._config = config
        self._splitter: PromptSplitter | None = None
        self._read: dict[str, list[str]] = {}

    def instructions(self, prompt: str, whole: bool) -> list[str]:
        """Returns the instructions in a prompt, or the prompt as one where it is to be kept whole.

        Raises:
            ValueError: It is empty, asks for too much, or what splits cannot be had.
        """
        if self._splitter is None:
            self._splitter = load_splitter(self._config, load_language_model)
        if prompt not in self._read:
            self._read[prompt] = self._splitter(prompt)
        instructions = keep_whole(prompt) if whole else self._read[prompt]
        if len(instructions) > MAX_INSTRUCTIONS:
            raise ValueError(
                f"The prompt asks for {len(instructions)} things, and each would be a layer of its own: ask for up to "
                f"{MAX_INSTRUCTIONS} at once, and for more by loading the edited run with another prompt."
            )
        return instructions
