"""A language model on this machine splits prompts, in each format it may be kept in."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from latenteditor.language.prompts import PromptSplitConfig
from tests.language.splitting import PARTS, PROMPT, SWAPPED, load_splitter


def save_language_model(folder: Path, answer: str, chat_template: str | None = None) -> Path:
    """A GPT-2 in the real format, whose next word is always the same answer, and then the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1, answer: 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=3,
            n_positions=1024,
            n_embd=2,
            n_layer=1,
            n_head=1,
            eos_token_id=1,
            bos_token_id=1,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.transformer.ln_f.weight.fill_(1.0)
        network.transformer.wte.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]))
        network.lm_head.weight.copy_(torch.tensor([[0.0, 0.0], [-1.0, 1.0], [1.0, -1.0]]))
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat_template", [None, "{% for message in messages %}{{ message.content }}{% endfor %}"])
def test_a_local_language_model_splits(tmp_path, warnings, chat_template):
    folder = save_language_model(tmp_path, json.dumps({"instructions": SWAPPED}), chat_template)
    splitter = load_splitter(PromptSplitConfig("model", model=str(folder)))
    assert splitter(PROMPT) == SWAPPED
    assert not warnings()


def test_rules_take_over_when_a_local_language_model_talks_nonsense(tmp_path, warnings):
    splitter = load_splitter(PromptSplitConfig("model", model=str(save_language_model(tmp_path, "nonsense"))))
    assert splitter(PROMPT) == PARTS
    assert len(warnings()) == 1
    assert "no JSON object" in warnings()[0]


def test_rules_take_over_when_a_request_is_too_long_for_the_local_language_model(tmp_path, warnings):
    splitter = load_splitter(PromptSplitConfig("model", model=str(save_language_model(tmp_path, "nonsense"))))
    assert len(splitter("; ".join([PROMPT] * 200))) == 400
    assert len(warnings()) == 1


@pytest.mark.parametrize("named", ["by its path", "within its folder"])
def test_a_damaged_gguf_file_is_refused(tmp_path, named):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    path = {"model": str(tmp_path / "model.gguf")}
    within = {"model": str(tmp_path), "gguf_file": "model.gguf"}
    with pytest.raises(ValueError, match=r"The language model '.*' could not be loaded .*(?i:gguf)"):
        load_splitter(PromptSplitConfig("model", **(path if named == "by its path" else within)))


def save_gguf(path: Path) -> None:
    """A Llama with random weights as GGUF: it says nothing that makes sense."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def entry(value: Any) -> bytes:
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        if isinstance(value, list):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)

    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words, width = ["<end>", *bytes_to_unicode().values(), "ab"], 8
    sizes = ("embedding_length", "feed_forward_length", "rope.dimension_count")
    heads = ("block_count", "attention.head_count", "attention.head_count_kv")
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        **{f"llama.{name}": width for name in sizes},
        **{f"llama.{name}": 1 for name in heads},
        "llama.context_length": 4096,
        "llama.vocab_size": len(words),
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 0,
    }
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (len(words), width), "output": (len(words), width), "output_norm": (width,)}
    shapes |= {f"blk.0.{name}": (width, width) for name in square}
    shapes |= {f"blk.0.{name}": (width,) for name in ("attn_norm", "ffn_norm")}
    generator = torch.Generator().manual_seed(0)
    table, data = b"", b""
    for name, shape in shapes.items():
        table += text(f"{name}.weight") + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        table += struct.pack("<IQ", 0, len(data))
        data += torch.randn(shape, generator=generator).numpy().tobytes()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata))
    head += b"".join(text(key) + entry(value) for key, value in metadata.items()) + table
    path.write_bytes(head + bytes(-len(head) % 32) + data)


@pytest.mark.parametrize("named", ["by its path", "within its folder"])
def test_a_gguf_file_is_loaded(tmp_path, warnings, named):
    pytest.importorskip("gguf", reason="transformers reads GGUF files with the package gguf")
    save_gguf(tmp_path / "model.gguf")
    path = {"model": str(tmp_path / "model.gguf")}
    within = {"model": str(tmp_path), "gguf_file": "model.gguf"}
    splitter = load_splitter(PromptSplitConfig("model", **(path if named == "by its path" else within)))
    assert splitter(PROMPT) == PARTS
    assert "no JSON object" in warnings()[0]
