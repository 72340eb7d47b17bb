import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from latenteditor.language import prompts
from latenteditor.language.prompts import (
    MAX_INSTRUCTIONS,
    CheckedSplitter,
    PromptSplitConfig,
    PromptSplitter,
    read_answer,
)
from latenteditor.language.rules import keep_whole, split_prompt
from latenteditor.networks.language_model import load_language_model


def load_splitter(config: PromptSplitConfig) -> PromptSplitter:
    return prompts.load_splitter(config, load_language_model)


PROMPT = "make the cone red and the cube blue"
PARTS = ["make the cone red", "make the cube blue"]
SWAPPED = ["make the cube blue", "make the cone red"]
"""What the rules do not say, so that it must come from the language model."""

EXAMPLES: list[tuple[str, ...]] = [
    # One instruction; the paper's and those of Instruct-NeRF2NeRF.
    ("turn the bear into a panda",),
    ("Turn the bear into a grizzly bear",),
    ("Turn him into a clown",),
    ("Turn him into the Tolkien Elf",),
    ("Turn him into Lord Voldemort",),
    ("Turn it into a Modigliani painting",),
    ("Make it look like it just snowed.",),
    ("Give him a Venetian mask",),
    ("Make him wear a traditional Japanese kimono",),
    ("make it look like a Fauvism painting",),
    # Several requests.
    ("make his hair red and give him a blue jacket", "make his hair red", "give him a blue jacket"),
    ("make the cone red. Then paint the floor white!", "make the cone red", "paint the floor white"),
    (
        "make the grass yellow, remove the car and add a red barn",
        "make the grass yellow",
        "remove the car",
        "add a red barn",
    ),
    ("Turn the sky pink, and then add birds", "Turn the sky pink", "add birds"),
    ("take the cone away and brighten the floor", "take the cone away", "brighten the floor"),
    ("make it night and add a moon", "make it night", "add a moon"),
    ("put him in a suit and make his hair grey", "put him in a suit", "make his hair grey"),
    (
        "make him look like Vincent van Gogh and turn the background into a starry night",
        "make him look like Vincent van Gogh",
        "turn the background into a starry night",
    ),
    # A shared verb.
    (PROMPT, *PARTS),
    ("please make the cone red & the cube blue", *PARTS),
    ("can you make the cone red and then the cube blue?", *PARTS),
    ("make cone red and cube blue", "make cone red", "make cube blue"),
    (
        "make the sky pink, the grass blue and the house red",
        "make the sky pink",
        "make the grass blue",
        "make the house red",
    ),
    ("make the red cube blue and the blue cube red", "make the red cube blue", "make the blue cube red"),
    ("make the cone dark red and the cube light blue", "make the cone dark red", "make the cube light blue"),
    (
        "make the cube on the left red and the cube on the right blue",
        "make the cube on the left red",
        "make the cube on the right blue",
    ),
    (
        "make the cube red with white dots and the cone shiny and blue",
        "make the cube red with white dots",
        "make the cone shiny and blue",
    ),
    ("make the cube gold and the cone silver", "make the cube gold", "make the cone silver"),
    ("make him bald and her blonde", "make him bald", "make her blonde"),
    ("make the man look old and the woman look young", "make the man look old", "make the woman look young"),
    ("turn him into a clown and her into a witch", "turn him into a clown", "turn her into a witch"),
    ("turn the sky pink and the grass into snow", "turn the sky pink", "turn the grass into snow"),
    (
        "change his shirt to red, his trousers to blue and his shoes to white",
        "change his shirt to red",
        "change his trousers to blue",
        "change his shoes to white",
    ),
    (
        "replace the cone with a cube and the sphere with a torus",
        "replace the cone with a cube",
        "replace the sphere with a torus",
    ),
    ("dress the man in red and the woman in blue", "dress the man in red", "dress the woman in blue"),
    ("make the cow black and white and the horse brown", "make the cow black and white", "make the horse brown"),
    # A shared attribute: every object has its own region.
    ("paint the sphere and the cube red", "paint the sphere red", "paint the cube red"),
    (
        "paint the sphere, the cube and the cone dark red",
        "paint the sphere dark red",
        "paint the cube dark red",
        "paint the cone dark red",
    ),
    (
        "paint the sphere and the cube red and the cone blue",
        "paint the sphere red",
        "paint the cube red",
        "paint the cone blue",
    ),
    ("change the cone and the cube to red", "change the cone to red", "change the cube to red"),
    ("remove the cone and the cube", "remove the cone", "remove the cube"),
    # Something new for the same one, or for several.
    ("give him glasses and a hat", "give him glasses", "give him a hat"),
    ("give her long hair and a hat", "give her long hair", "give her a hat"),
    ("give him salt and pepper hair and a beard", "give him salt and pepper hair", "give him a beard"),
    ("give him a bow and arrow and a hat", "give him a bow and arrow", "give him a hat"),
    ("give the bear sunglasses and a hat", "give the bear sunglasses", "give the bear a hat"),
    ("give the man a hat and the woman a scarf", "give the man a hat", "give the woman a scarf"),
    ("give him a hat and her a scarf", "give him a hat", "give her a scarf"),
    ("add birds and a boat", "add birds", "add a boat"),
    ("add a boat and a bird to the lake", "add a boat to the lake", "add a bird to the lake"),
    ("put a hat on the man and a scarf on the woman", "put a hat on the man", "put a scarf on the woman"),
    ("put a hat and sunglasses on him", "put a hat on him", "put sunglasses on him"),
    # A pronoun takes its noun.
    ("make her hair red; make it curly", "make her hair red", "make her hair curly"),
    ("make her hair red and make it curly", "make her hair red", "make her hair curly"),
    ("make the bear brown and its eyes blue", "make the bear brown", "make the bear's eyes blue"),
    (
        "make the cat orange, its tail white and its ears black",
        "make the cat orange",
        "make the cat's tail white",
        "make the cat's ears black",
    ),
    ("turn the man into a clown and give him a red nose", "turn the man into a clown", "give the man a red nose"),
    (
        "make the queen's dress red and give her a crown",
        "make the queen's dress red",
        "give the queen a crown",
    ),
    ("make the trees red and their trunks blue", "make the trees red", "make the trees' trunks blue"),
    (
        "make the cone and the cube red and make them shiny",
        "make the cone red",
        "make the cube red",
        "make the cone shiny",
        "make the cube shiny",
    ),
    ("make the cone red and make it winter", "make the cone red", "make it winter"),
    ("make the baby carriage red and her dress blue", "make the baby carriage red", "make her dress blue"),
    # A pronoun stays with its noun where parting them would be a guess, or the noun is not in the photographs.
    ("add a hat and make it red",),
    ("make the sky pink, add a boat and make it red", "make the sky pink", "add a boat and make it red"),
    ("make the cone red and the cube blue and make it shiny",),
    ("make the cone red and make it look like a painting",),
    ("make his eyes blue and make it glow",),
    # Semicolons, new lines and quotes always split.
    ("add a hat; make it red", "add a hat", "make the hat red"),
    ("Make the cone red; the cube blue;", "Make the cone red", "Make the cube blue"),
    ("make the cone red\nmake the cube blue", *PARTS),
    ("make the left half red; something odd and strange", "make the left half red", "something odd and strange"),
    ('"make the cone red" "make the cube blue"', *PARTS),
    ("“make the cone red” and 'make the cube blue'", *PARTS),
    ('make the cone red and "paint the cube and the floor blue"', PARTS[0], "paint the cube and the floor blue"),
    ('write "open; and closed" on the door',),
    (
        'write "open and closed" on the door and make the wall red',
        'write "open and closed" on the door',
        "make the wall red",
    ),
    # Several attributes of one thing.
    ("make the cube shiny and red",),
    ("make the cube big, red and shiny",),
    ("turn the bear into a big, fluffy panda",),
    ("turn the bear into a panda with a red scarf and a hat",),
    ("give him a red and blue jacket",),
    ("give her a dress with red and white stripes",),
    ("make it black and white",),
    # Names and phrases.
    ("paint it in the style of Van Gogh and Monet",),
    ("make it look like Bob Ross and Van Gogh painted it",),
    ("turn them into Tom and Jerry",),
    ("turn him into Mr. Bean. ",),
    # What has another reading, or is not understood.
    ("give him a hat with a feather and a scarf",),
    ("give him a hat and scarf",),
    ("give the man and the woman hats",),
    ("add a man riding a horse and a dog",),
    ("add a boat on the lake and a bird",),
    ("remove the cup from the table and the chair",),
    ("remove the red and the blue cubes",),
    ("replace the cone with a cube and a sphere",),
    ("turn the cube and the cone into spheres",),
    ("make the cone and the cube red and blue",),
    ("make the cone red and the cube",),
    ("make the wine glass and the bottle red",),
    ("paint the chair and the wine glass",),
    ("make the dog bark and the cat red",),
    ("make the man jump and turn the page",),
    ("make it brick red and moss green",),
    ("make one cube red and the other blue",),
    ("make the left cube red and the right blue",),
    ("color the first ball red, the second blue",),
    ("make everything red but keep the sky blue",),
    ("make the cone red, not the cube",),
    ("swap the cone and the cube",),
    ("his hair should be red and his jacket blue",),
    ("red hair and a blue jacket",),
    ("mache den Kegel rot und den Würfel blau",),
]
"""A prompt and its instructions; a prompt alone stays as it is written."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_rules_split_where_there_is_one_reading(example):
    prompt, *instructions = example
    assert split_prompt(prompt) == (instructions or [prompt.strip()])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_rules_say_what_the_prompt_says_and_leave_nothing_out(example):
    instructions = split_prompt(example[0])
    if not any(";" in instruction for instruction in instructions):
        assert read_answer(json.dumps({"instructions": instructions}), example[0]) == instructions


@pytest.mark.parametrize("example", [row for row in EXAMPLES if '"' not in row[0]], ids=lambda example: example[0])
def test_what_is_split_splits_no_further(example):
    for instruction in split_prompt(example[0]):
        assert split_prompt(instruction) == [instruction]


def test_there_are_examples_enough():
    assert len({example[0] for example in EXAMPLES}) == len(EXAMPLES) >= 60


@pytest.mark.parametrize("prompt", ["", " \t\n", ";", '""', "..."])
@pytest.mark.parametrize("splitter", [split_prompt, keep_whole, CheckedSplitter(str, "nobody")])
def test_an_empty_prompt_is_refused_in_one_line(splitter, prompt):
    with pytest.raises(ValueError, match=r"^There is nothing to edit by: give a prompt, .*\.$"):
        splitter(prompt)


def test_a_long_prompt_is_split_in_no_time():
    start = time.process_time()
    assert len(split_prompt("; ".join([PROMPT] * 100))) == 200
    assert len(split_prompt(" and ".join([PROMPT] * 100))) == 200
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "answer",
    [
        '{"instructions": ["make the cone red", "make the cube blue"]}',
        'Here it is:\n```json\n{"instructions": ["make the  cone red", " make the cube blue"]}\n```\nAnything else?',
        '<think>{red?}</think> {} {"instructions": ["make the cone red", "make the cube blue"], "count": 2}',
    ],
)
def test_a_good_answer_is_read_whatever_stands_around_it(answer):
    assert read_answer(answer, PROMPT) == PARTS


@pytest.mark.parametrize(
    ("instructions", "complaint"),
    [
        ("make the cone red", "no list of texts"),
        (None, "no list of texts"),
        ([*PARTS, 3], "no list of texts"),
        ([*PARTS, " "], "no list of texts"),
        ([], "0 instructions"),
        (PARTS * 5, f"10 instructions, not 1 to {MAX_INSTRUCTIONS}"),
        ([*PARTS, "make the sphere red"], "made up sphere"),
        (["make the cone red", "make the cube blue and shiny"], "made up shiny"),
        (["make the cone red"], "left out blue, cube"),
        (["make the cone red; make the cube blue"], "semicolon"),
    ],
)
def test_an_answer_of_no_use_is_refused(instructions, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_answer(json.dumps({"instructions": instructions}), PROMPT)


@pytest.mark.parametrize("answer", ["", "make the cone red", '{"instructions": ["make', '["make the cone red"]', "{}"])
def test_an_answer_without_json_is_refused(answer):
    with pytest.raises(ValueError, match="no JSON object with instructions"):
        read_answer(answer, PROMPT)


def test_an_answer_may_change_verb_pronoun_number_and_case():
    answer = json.dumps({"instructions": ["Paint the man's hair red", "give the man a blue jacket"]})
    assert len(read_answer(answer, "please make the man's hair red, and give him two blue jackets")) == 2


@pytest.fixture
def warnings(caplog) -> Callable[[], list[str]]:
    """What was warned of so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_rules_take_over_with_one_warning_when_a_language_model_fails(warnings):
    def fail(request: str) -> str:
        raise RuntimeError("out of memory\nand more lines")

    assert CheckedSplitter(fail, "The model")(PROMPT) == PARTS
    assert warnings() == ["The model did not split the prompt (out of memory): the rules split it."]


def test_the_language_model_is_asked_with_the_prompt_at_the_end():
    requests = []
    CheckedSplitter(lambda request: requests.append(request) or "", "The model")(f" {PROMPT}\n")
    assert requests[0].endswith(f"Instruction: {PROMPT}\n")


@pytest.mark.parametrize(("splitter", "expected"), [("rules", PARTS), ("none", [PROMPT])])
def test_splitters_without_a_language_model(splitter, expected):
    loaded = load_splitter(PromptSplitConfig(splitter))
    assert isinstance(loaded, PromptSplitter)
    assert loaded(PROMPT) == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"splitter": "model"}, "needs a language model"),
        ({"splitter": "model", "model": "/no/such/folder"}, "'/no/such/folder' could not be loaded .* choose"),
        ({"splitter": "endpoint"}, "needs an address .*, not None"),
        ({"splitter": "endpoint", "endpoint": "localhost:8000"}, "needs an address .*, not 'localhost:8000'"),
        ({"splitter": "endpoint", "endpoint": "file:///etc/passwd"}, "needs an address"),
        (
            {"splitter": "endpoint", "endpoint": "http://localhost", "endpoint_key_variable": "NO_SUCH_KEY"},
            "environment variable 'NO_SUCH_KEY' holds no key",
        ),
        ({"splitter": "endpoint", "endpoint": "http://localhost", "timeout_seconds": 0.0}, "time-out .* not 0.0"),
        ({"splitter": "model", "model": "x", "timeout_seconds": float("nan")}, "time-out .* not nan"),
    ],
)
def test_a_mistake_in_the_settings_is_answered_before_any_prompt(options, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        load_splitter(PromptSplitConfig(**options))
    assert "\n" not in str(caught.value)


def test_an_unknown_splitter_is_refused():
    config = PromptSplitConfig()
    config.__dict__["splitter"] = "oracle"
    with pytest.raises(ValueError, match="Unknown splitter 'oracle': one of rules, model, endpoint, none fits"):
        load_splitter(config)


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


@dataclass
class Server:
    """An endpoint on this machine, and what it was sent."""

    reply: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
    address: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Set when a test ends, so that no answer outlives it."""

    def splitter(self, **options: Any) -> PromptSplitter:
        return load_splitter(PromptSplitConfig("endpoint", endpoint=self.address, **options))

    def say(self, content: str) -> None:
        """Lets it answer as a chat completion."""
        self.say_raw(json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())

    def say_raw(self, body: bytes, status: int = 200) -> None:
        """Lets it answer with these bytes."""

        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.reply = reply


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            state.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            state.reply(self)

        do_POST = do_GET = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.address = f"http://127.0.0.1:{listening.server_port}/v1"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.released.set()
        listening.shutdown()
        thread.join()


def test_an_endpoint_splits(server, warnings, monkeypatch):
    monkeypatch.setenv("SPLITTER_KEY", "secret\n")
    server.say(json.dumps({"instructions": SWAPPED}))
    splitter = server.splitter(endpoint_model="small", endpoint_key_variable="SPLITTER_KEY")
    assert splitter(PROMPT) == SWAPPED
    assert not warnings()
    (request,) = server.requests
    body = json.loads(request["body"])
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["Authorization"] == "Bearer secret"
    assert body["model"] == "small"
    assert PROMPT in body["messages"][0]["content"]


def test_an_endpoint_gets_no_key_and_no_model_that_was_not_set(server):
    server.say("")
    server.splitter()(PROMPT)
    (request,) = server.requests
    assert "Authorization" not in request["headers"]
    assert "model" not in json.loads(request["body"])


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        (b"<html>", 200, "Expecting value"),
        (b"\xff\xfe\x00", 200, "decode"),
        (b"{}", 200, "no chat completion"),
        (b'{"choices": []}', 200, "no chat completion"),
        (b'{"choices": "none"}', 200, "no chat completion"),
        (b'{"choices": [{"message": {"content": null}}]}', 200, "no JSON object"),
        (b'{"choices": [{"message": {"content": "I cannot help with that."}}]}', 200, "no JSON object"),
        (b"busy", 503, "503"),
        (b"who are you", 401, "401"),
        (b" " * 1_100_000, 200, "does not end"),
    ],
)
def test_rules_take_over_when_an_endpoint_answers_something_else(
    server, warnings, monkeypatch, body, status, complaint
):
    monkeypatch.setenv("SPLITTER_KEY", "secret")
    server.say_raw(body, status)
    assert server.splitter(endpoint_key_variable="SPLITTER_KEY")(PROMPT) == PARTS
    (warning,) = warnings()
    assert complaint in warning
    assert server.address in warning
    assert "secret" not in warning


def test_rules_take_over_when_an_endpoint_is_silent(server, warnings):
    server.reply = lambda handler: server.released.wait(10)
    assert server.splitter(timeout_seconds=0.3)(PROMPT) == PARTS
    assert len(warnings()) == 1
    assert "timed out" in warnings()[0]


def test_rules_take_over_when_an_endpoint_drips(server, warnings):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.05):
            handler.wfile.write(b" ")

    server.reply = drip
    assert server.splitter(timeout_seconds=0.3)(PROMPT) == PARTS
    assert "timed out" in warnings()[0]


def test_rules_take_over_when_nobody_listens(server, warnings):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        server.address = f"http://127.0.0.1:{closed.server_port}"
    assert server.splitter()(PROMPT) == PARTS
    assert len(warnings()) == 1
    assert "refused" in warnings()[0]


def test_a_redirection_does_not_get_the_key(server, monkeypatch):
    monkeypatch.setenv("SPLITTER_KEY", "secret")

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        server.say("")

    server.reply = redirect
    assert server.splitter(endpoint_key_variable="SPLITTER_KEY")(PROMPT) == PARTS
    assert [request["path"] for request in server.requests] == ["/v1/chat/completions", "/elsewhere"]
    assert "Authorization" in server.requests[0]["headers"]
    assert "Authorization" not in server.requests[1]["headers"]
