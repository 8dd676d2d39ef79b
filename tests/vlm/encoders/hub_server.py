"""A hub on this machine: serves folders as repositories over HTTP, as much of the protocol as downloading needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest

COMMIT = "0" * 39 + "1"


@contextmanager
def hub_of(repositories: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[list[str]]:
    """Points huggingface_hub at a hub that holds ``repositories`` and at an empty cache; gives the list of requested paths."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            requested.append(self.path)
            for name, folder in repositories.items():
                if self.path.startswith(f"/api/models/{name}/"):
                    return self._send(with_body, self._listing(name, folder), {"Content-Type": "application/json"})
                prefix = f"/{name}/resolve/"
                if self.path.startswith(prefix):
                    file = folder / self.path.removeprefix(prefix).partition("/")[2]
                    if file.is_file():
                        return self._send(with_body, file.read_bytes(), {"X-Repo-Commit": COMMIT})
                    return self._missing("EntryNotFound")
            return self._missing("RepoNotFound")

        def _listing(self, name: str, folder: Path) -> bytes:
            files = [{"rfilename": str(file.relative_to(folder))} for file in sorted(folder.rglob("*")) if file.is_file()]
            tree = [{"type": "file", "path": f["rfilename"], "size": 1, "oid": "x"} for f in files]
            whole = {"id": name, "sha": COMMIT, "siblings": files, "private": False, "tags": [], "downloads": 0, "likes": 0}
            return json.dumps(tree if "/tree/" in self.path else whole).encode()

        def _send(self, with_body: bool, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for key, value in {"Content-Length": str(len(body)), "ETag": f'"{hashlib.sha1(body).hexdigest()}"', **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def _missing(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    point_hub_at(f"http://127.0.0.1:{server.server_port}", monkeypatch, cache)
    try:
        yield requested
    finally:
        server.shutdown()
        server.server_close()


def point_hub_at(endpoint: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Everything that huggingface_hub read from the environment when it was imported."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
