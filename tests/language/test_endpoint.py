"""An endpoint that splits prompts: what it is sent, and who takes over when it will not do."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from latenteditor.language.prompts import PromptSplitConfig, PromptSplitter
from tests.language.splitting import PARTS, PROMPT, SWAPPED, load_splitter


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
