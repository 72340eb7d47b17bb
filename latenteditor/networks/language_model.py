"""A causal language model on this machine, as the splitter of prompts asks it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from latenteditor.language.prompts import PromptSplitConfig, first_line

MAX_ANSWER_TOKENS = 256
"""Longest answer of a local language model; our choice."""


def load_language_model(config: PromptSplitConfig, device: torch.device | str = "cpu") -> Callable[[str], str]:
    """A causal language model on this machine as a function from a request to its answer.

    Raises:
        ValueError: There is no such model.
    """
    tokenizer, network = _load(config, device)

    def complete(request: str) -> str:
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": request}]
            request = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # A chat template writes the start mark itself.
        tokens = tokenizer(request, return_tensors="pt", add_special_tokens=not tokenizer.chat_template).to(device)
        generated = network.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=MAX_ANSWER_TOKENS,
            max_time=config.timeout_seconds,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        return tokenizer.decode(generated[0, tokens.input_ids.shape[1] :], skip_special_tokens=True)

    return complete


def _load(config: PromptSplitConfig, device: torch.device | str) -> tuple[Any, Any]:
    """The model's tokenizer and network."""
    if not config.model:
        raise ValueError("The splitter 'model' needs a language model: pass its hub id, its folder or a GGUF file.")
    path = Path(config.model).expanduser()
    # transformers takes a GGUF file as a name within a folder.
    single = path.suffix == ".gguf" and path.is_file()
    model = str(path.parent if single else path) if path.exists() else config.model
    gguf_file = path.name if single else config.gguf_file

    from transformers.models.auto.modeling_auto import AutoModelForCausalLM
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    # Asked for, never run: code that a model brings with it.
    options: dict[str, Any] = {"trust_remote_code": False} | ({"gguf_file": gguf_file} if gguf_file else {})
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, **options)
        network: Any = AutoModelForCausalLM.from_pretrained(model, **options)
        return tokenizer, network.to(device)
    # Every format fails in its own way.
    except Exception as error:
        raise ValueError(
            f"The language model '{config.model}' could not be loaded ({first_line(error)}): pass the hub id, folder "
            f"or GGUF file of a causal language model, or choose the splitter 'rules'."
        ) from error
