"""A server that edits pictures, on this machine: slow, failing, answering other sizes and nonsense."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.editing.black_box import Calls
from latenteditor.networks.black_boxes import load_black_box
from latenteditor.networks.image_endpoint import EndpointConfig, ImageEndpoint, require_endpoint

PICTURE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)).float() / 255
Answer = tuple[int, bytes]


def picture_answer(size: tuple[int, int] = (60, 40), colour: str = "red") -> Answer:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return 200, json.dumps({"data": [{"b64_json": base64.b64encode(content.getvalue()).decode()}]}).encode()


@dataclass
class Server:
    """An endpoint, and what it was sent."""

    answer: Callable[[int], Answer] = lambda number: picture_answer()
    headers: dict[str, str] = field(default_factory=dict)
    address: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)

    def editor(self, **options: Any) -> ImageEndpoint:
        return ImageEndpoint(self.address, EndpointConfig(**options), self.calls, self.pauses.append)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            status, content = state.answer(len(state.requests))
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.address = f"http://127.0.0.1:{listening.server_port}/v1"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


def edit(editor: ImageEndpoint, references=()) -> torch.Tensor:
    return editor.edit_picture(PICTURE, "make it red", 7, references)


def test_a_picture_of_another_size_comes_back_and_the_key_is_sent(server, monkeypatch):
    monkeypatch.setenv("PICTURE_KEY", "secret\n")
    made = edit(server.editor(model="small", key_variable="PICTURE_KEY", send_seed=True), [PICTURE])
    assert made.shape == (3, 40, 60) and torch.equal(made[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    (request,) = server.requests
    assert request["path"] == "/v1/images/edits" and request["headers"]["Authorization"] == "Bearer secret"
    for part in (b'name="prompt"', b"make it red", b'name="model"', b"small", b'name="seed"'):
        assert part in request["body"]
    assert request["body"].count(b'name="image[]"') == 2 and server.calls.made == 1


def test_what_is_not_set_is_not_sent(server):
    edit(server.editor())
    (request,) = server.requests
    assert "Authorization" not in request["headers"]
    assert b'name="model"' not in request["body"] and b'name="seed"' not in request["body"]


def test_every_third_call_fails_and_all_pictures_come(server):
    server.answer = lambda number: (503, b"busy") if number % 3 == 0 else picture_answer()
    editor = server.editor()
    for _ in range(6):
        edit(editor)
    assert len(server.requests) == server.calls.made == 8 and len(server.pauses) == 2


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"\xff\xfe", b"{}", b'{"data": []}',
     b'{"data": [{"b64_json": "#"}]}', b'{"data": [{"b64_json": "AAAA"}]}',
     b'{"data": [{"b64_json": null}]}'],
)  # fmt: skip
def test_nonsense_is_asked_again_ever_later(server, body):
    server.answer = lambda number: (200, body) if number < 4 else picture_answer()
    edit(server.editor(pause_seconds=1.0))
    assert [round(pause / 1.125) for pause in server.pauses] == [1, 2, 4]


def test_a_server_says_when_to_come_back(server):
    server.headers = {"Retry-After": "11"}
    server.answer = lambda number: (429, b"") if number == 1 else picture_answer()
    edit(server.editor())
    assert 11 <= server.pauses[0] <= 11 * 1.25


def test_a_slow_server_is_given_up(server):
    def slow(number: int) -> Answer:
        time.sleep(0.3 if number == 1 else 0)
        return picture_answer()

    server.answer = slow
    edit(server.editor(timeout_seconds=0.15))
    assert len(server.requests) == 2


def test_failing_too_often_ends_in_a_sentence(server):
    server.answer = lambda number: (500, b"")
    with pytest.raises(ValueError, match="failed 3 times in a row, the last time because the server answered 500"):
        edit(server.editor(retries=2))


@pytest.mark.parametrize(
    ("status", "said"), [(400, "No such size for ..."), (401, "refuses with status 401;"), (302, "302")]
)
def test_a_refusal_is_not_repeated_and_tells_no_key(server, monkeypatch, status, said):
    monkeypatch.setenv("PICTURE_KEY", "secret")
    server.headers = {"Location": "/elsewhere"}
    server.answer = lambda number: (status, b'{"error": {"message": "No such size for secret"}}')
    with pytest.raises(ValueError, match=said) as refusal:
        edit(server.editor(key_variable="PICTURE_KEY"))
    assert len(server.requests) == 1 and "secret" not in str(refusal.value)


def test_no_call_is_made_beyond_the_limit(server):
    server.calls.most = 2
    server.answer = lambda number: (503, b"")
    with pytest.raises(ValueError, match="called 2 times, and 2 calls are allowed"):
        edit(server.editor())
    assert len(server.requests) == 2


def test_nothing_is_paid_twice(server, tmp_path):
    first = KeptPictures(server.editor(), tmp_path).edit_picture(PICTURE, "make it red", 7)
    kept = KeptPictures(server.editor(), tmp_path)
    assert torch.equal(kept.edit_picture(PICTURE, "make it red", 7), first)
    assert len(server.requests) == 1 and kept.found == 1
    for others in ({"seed": 8}, {"instruction": "blue"}, {"picture": PICTURE.flip(2)}, {"references": [PICTURE]}):
        kept.edit_picture(**{"picture": PICTURE, "instruction": "make it red", "seed": 7, **others})
    assert len(server.requests) == 5


def test_addresses_and_settings_that_hold_a_key_are_refused_without_repeating_it(monkeypatch):
    monkeypatch.delenv("sk-1234", raising=False)
    for address, config in (
        ("https://me:sk-1234@host/v1", EndpointConfig()),
        ("https://host/v1?key=sk-1234", EndpointConfig()),
        ("https://host/v1", EndpointConfig(key_variable="sk-1234")),
    ):
        with pytest.raises(ValueError, match="not repeated here") as refusal:
            require_endpoint(address, config)
        assert "sk-1234" not in str(refusal.value)
    with pytest.raises(ValueError, match="names no server"):
        require_endpoint("http://", EndpointConfig())


def test_an_address_loads_an_endpoint(server):
    assert isinstance(load_black_box(server.address, Calls(), EndpointConfig(), "cpu"), ImageEndpoint)
