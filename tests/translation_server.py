"""A real HTTP translator of the tests: DeepL's and LibreTranslate's forms, text in capitals."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class TranslationServer(ThreadingHTTPServer):
    """Writes text in capitals, tags left alone; can be told to fail."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.failures = [], []  # bodies; (status, headers) to answer with first
        self.works_for = 10**9  # requests
        self.fails_every = 0  # requests, each failing once; 0: none

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((body, dict(self.headers)))
        if self.server.failures:
            self._answer(*self.server.failures.pop(0), {"message": "the key k3y is tired"})
        elif self.server.fails_every and len(self.server.requests) % self.server.fails_every == 0:
            self._answer(503, {}, {"message": "busy"})
        elif len(self.server.requests) > self.server.works_for:
            self._answer(503, {}, {"message": "down"})
        elif "text" in body:
            self._answer(200, {}, {"translations": [{"text": text.upper()} for text in body["text"]]})
        else:
            self._answer(200, {}, {"translatedText": [text.upper() for text in body["q"]]})

    def _answer(self, status, headers, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
