"""An OpenAI-compatible server that edits pictures: what it is sent, what is made of its answer, when it is asked again.

Its key comes from an environment variable, goes to the address that was named and nowhere else, and is repeated in no
message.
"""

import base64
import binascii
import io
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latenteditor.editing.black_box import Calls, NoPicture, with_references

MAX_ANSWER_BYTES = 200_000_000
"""Longest answer that is read; our choice."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries at most; our choice."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Answers after which a server may be asked the same once more."""
NOT_ALLOWED = (401, 403)
"""Answers to a key that will not do."""


@dataclass
class EndpointConfig:
    """How a server that edits pictures is asked. Its address is --edit.model."""

    model: str | None = None
    """The model that the server is asked for, by the server's name for it. Servers with a single one do without."""
    key_variable: str | None = None
    """The name of the environment variable that holds the server's key, such as OPENAI_API_KEY; never the key
    itself. None sends no key."""
    size: str | None = None
    """What is asked for as `size`, such as 1024x1024 or auto, where the server wants it said."""
    response_format: str | None = None
    """What is asked for as `response_format`: b64_json for servers that send addresses of pictures otherwise."""
    send_seed: bool = False
    """Sends a `seed` too, for servers that take one. OpenAI's takes none."""
    most_references: int = 4
    """How many finished views the server gets beside the one to edit; 0 for servers that take one picture."""
    timeout_seconds: float = 300.0
    """Longest wait for an answer. Our choice."""
    retries: int = 5
    """How often it is asked again where it fails or answers nonsense. Our choice."""
    pause_seconds: float = 2.0
    """The first pause before that; each is twice the one before it, or as long as the server says. Our choice."""


class ImageEndpoint:
    """A `BlackBox` on a server: POST address/images/edits."""

    def __init__(
        self, address: str, config: EndpointConfig, calls: Calls, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Asks nothing yet.

        Raises:
            ValueError: The address or an option cannot be used, or there is no key.
        """
        require_endpoint(address, config)
        self._address = f"{address.rstrip('/')}/images/edits"
        self._config, self._calls, self._sleep = config, calls, sleep
        self._key = _read_key(config.key_variable)
        self.identity = json.dumps([address.rstrip("/"), config.model, config.size])
        self.most_references = config.most_references

    def edit_picture(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]],
    ) -> Float[Tensor, "3 _ _"]:
        """The picture that the server makes; it is asked again, ever more slowly, where it fails.

        Raises:
            ValueError: It refuses, or fails too often in a row.
        """
        config = self._config
        fields: dict[str, str] = {"prompt": with_references(instruction, len(references)), "n": "1"}
        optional = {"model": config.model, "size": config.size, "response_format": config.response_format}
        fields |= {name: value for name, value in optional.items() if value}
        if config.send_seed:
            fields["seed"] = str(seed)
        pictures = [_png(each) for each in (picture, *references)]
        for attempt in range(config.retries + 1):
            self._calls.spend()
            try:
                return self._ask(fields, pictures)
            except _AskAgain as failure:
                if attempt == config.retries:
                    raise ValueError(
                        f"The endpoint {self._address} failed {attempt + 1} times in a row, the last time because "
                        f"{failure}: run the same command again later; what came back so far is kept."
                    ) from None
                self._sleep(_pause(config.pause_seconds, attempt, failure.after))
        raise NoPicture("no try was allowed")

    def _ask(self, fields: dict[str, str], pictures: Sequence[bytes]) -> Tensor:
        """One request and its answer.

        Raises:
            _AskAgain: It may go better next time.
            ValueError: It will not.
        """
        import requests

        name = "image" if len(pictures) == 1 else "image[]"
        files = [(name, (f"{number}.png", content, "image/png")) for number, content in enumerate(pictures)]
        deadline = time.monotonic() + self._config.timeout_seconds
        try:
            # A redirection must not take the key along, nor may a file of passwords replace it.
            with requests.post(
                self._address, data=fields, files=files, auth=self._sign, allow_redirects=False, stream=True,
                timeout=self._config.timeout_seconds,
            ) as response:  # fmt: skip
                body = _read_until(response, deadline)
                status, after = response.status_code, response.headers.get("Retry-After", "")
        except requests.RequestException as error:
            raise _AskAgain(f"there was no answer ({type(error).__name__})") from None
        if status in AGAIN:
            raise _AskAgain(f"the server answered {status}", after)
        if status != 200:
            raise ValueError(self._refusal(status, body))
        return _picture(body)

    def _sign(self, request: Any) -> Any:
        """Adds the key, where there is one, to a request."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _refusal(self, status: int, body: bytes) -> str:
        """Why the server will not edit, without the key that it may repeat."""
        said = "" if status in NOT_ALLOWED else _message(body)
        said = said.replace(self._key, "...") if self._key else said
        remedy = "check the key and --black-box.endpoint.key-variable" if status in NOT_ALLOWED else "check the options"
        return f"The endpoint {self._address} refuses with status {status}{': ' + said if said else ''}; {remedy}."


def require_endpoint(address: str, config: EndpointConfig) -> None:
    """Refuses what cannot be asked, and settings that hold a key: the error does not repeat it.

    Raises:
        ValueError: The address holds more than server and path, or an option lies outside its range.
    """
    parts = urlsplit(address)
    if "@" in address or parts.query or parts.fragment or "?" in address or "#" in address:
        raise ValueError(
            "The address in --edit.model holds a user name, a password or a query (it is not repeated here, as a key "
            "may be in it): pass server and path alone, such as http://localhost:8000/v1, and the key by an "
            "environment variable."
        )
    if not parts.hostname:
        raise ValueError(f"{address!r} names no server: pass an address such as http://localhost:8000/v1.")
    if config.key_variable is not None and config.key_variable not in os.environ:
        raise ValueError(
            "The option key_variable takes the name of an environment variable that is set, such as OPENAI_API_KEY, "
            "and what it holds names none (it is not repeated here, as it may be the key itself): set the variable and "
            "pass its name."
        )
    if not config.timeout_seconds > 0 or config.retries < 0 or config.pause_seconds < 0 or config.most_references < 0:
        raise ValueError(
            f"An endpoint has a time-out above 0 and no fewer than 0 retries, references and seconds of pause, not "
            f"{config.timeout_seconds}, {config.retries}, {config.most_references} and {config.pause_seconds}."
        )


class _AskAgain(Exception):
    """A request failed in a way that may pass."""

    def __init__(self, why: str, after: str = "") -> None:
        super().__init__(why)
        self.after = after


def _read_key(variable: str | None) -> str | None:
    """The key in an environment variable."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(
            f"The environment variable {variable!r} holds no key: set it to one, or name another in "
            "--black-box.endpoint.key-variable."
        )
    return key


def _pause(first: float, attempt: int, after: str) -> float:
    """Seconds before the next try: what the server asks for, else twice as long each time, and never quite the same."""
    asked = float(after) if after.isdecimal() else first * 2**attempt
    return min(LONGEST_PAUSE, asked) * random.uniform(1.0, 1.25)


def _read_until(response: Any, deadline: float) -> bytes:
    """A server's answer; the socket's own time-out would start anew with every byte.

    Raises:
        _AskAgain: It takes too long, or does not end.
    """
    received = bytearray()
    for chunk in response.iter_content(1 << 16):
        received += chunk
        if time.monotonic() > deadline:
            raise _AskAgain("the answer took too long")
        if len(received) > MAX_ANSWER_BYTES:
            raise _AskAgain("the answer does not end")
    return bytes(received)


def _picture(body: bytes) -> Float[Tensor, "3 height width"]:
    """The picture in an answer.

    Raises:
        _AskAgain: There is none.
        ValueError: It lies elsewhere.
    """
    try:
        first = json.loads(body)["data"][0]
        if "b64_json" not in first and "url" in first:
            raise ValueError(
                "The endpoint answers with addresses of pictures, which are not followed: pass "
                "--black-box.endpoint.response-format b64_json."
            )
        content = base64.b64decode(first["b64_json"], validate=True)
    except (json.JSONDecodeError, UnicodeDecodeError, binascii.Error, KeyError, IndexError, TypeError):
        raise _AskAgain("its answer holds no picture") from None
    try:
        with Image.open(io.BytesIO(content)) as opened:
            pixels = np.array(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise _AskAgain("its picture cannot be read") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _message(body: bytes) -> str:
    """What a server says about a refusal, short enough for a line."""
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return " ".join(str(said).split())[:200]


def _png(picture: Float[Tensor, "3 height width"]) -> bytes:
    """A picture as a file."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
