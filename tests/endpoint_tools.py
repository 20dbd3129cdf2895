"""An OpenAI-compatible judge on a real port: answers pairs and ratings, and refuses what it is told
to refuse."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from selfreward.engines.endpoint_fields import refused_fields


@dataclass
class FakeEndpoint:
    """Prefers the response with the word "good", with P = e^-0.1 against e^-2.4, and rates one with
    it 5 and others 2."""

    refuses: dict[str, str] = field(default_factory=dict)
    """Fields of a request, or words of a prompt, to the text of the 400 they get."""
    says_logprobs: bool = True
    is_busy_first: bool = False
    """Whether the first request of all fails for now."""
    max_choices: int | None = None
    """Most choices of an answer, whatever `n` asks for."""
    answers: dict[str, str] = field(default_factory=dict)
    """Words of a prompt to the text that is answered to it."""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> tuple[int, str]:
        """Status and text of the answer to a request."""
        self.asked.append(body)
        if self.is_busy_first and len(self.asked) == 1:
            return 503, json.dumps({"error": "busy"})
        for name, text in self.refuses.items():
            if name in body or (" " in name and name in body["messages"][-1]["content"]):
                return 400, text
        self.answered.append(body)
        usage = {"prompt_tokens": 50, "completion_tokens": 1}
        num = min(body.get("n", 1), self.max_choices or body.get("n", 1))
        return 200, json.dumps({"choices": [self._choice(body)] * num, "usage": usage})

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        shown = body["messages"][-1]["content"]
        found = re.findall(r"<response-[\w-]+>\n(.*?)\n</response", shown)
        text = f"Score: {5 if 'good' in found[0] else 2}"
        if len(found) == 2:
            text, other = ("A", " B") if "good" in found[0] else ("B", " A")
        text = next((said for words, said in self.answers.items() if words in shown), text)
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        if len(found) == 2 and self.says_logprobs and "logprobs" in body:
            token = {"token": text, "logprob": -0.1}
            token["top_logprobs"] = [{"token": other, "logprob": -2.4}]
            choice["logprobs"] = {"content": [token]}
        return choice


@contextmanager
def served(endpoint: FakeEndpoint) -> Iterator[FakeEndpoint]:
    """The endpoint while it is reached at `endpoint.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, json.dumps({"data": [{"id": "some-judge"}]}))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._answer(*endpoint.answer(json.loads(self.rfile.read(length))))

        def _answer(self, status: int, text: str) -> None:
            payload = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            # Whoever asked may have given up by now.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.end_headers()
                self.wfile.write(payload)

        def log_message(self, *args: Any) -> None:
            pass

    # A port may have been that of another endpoint.
    refused_fields.cache_clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
