"""Google's storage API on this machine, in memory: what TensorStore asks of a bucket, and faults.

Objects with generations, preconditions (ifGenerationMatch, ifGenerationNotMatch), ranges, uploads
of one request, and lists by offsets, prefixes and pages. `start()` leads TensorStore here.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 50  # objects of one answer to a list: few, so that several are asked for

# (method, object's name) -> what goes wrong: a status such as 503, "drop" (the connection, before
# anything is done), "lose" (the answer to what has been done), or None.
Fault = Callable[[str, str], int | str | None]


class Server(ThreadingHTTPServer):
    """All buckets; every name of one is there but those that begin with `none`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.lock, self.generation = threading.Lock(), 0
        self.fault: Fault = lambda method, name: None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_) -> None:
        """A client that was killed is no error."""

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Writes an object."""
        with self.lock:
            self.generation += 1
            self.objects[bucket, name] = content, self.generation

    def get(self, bucket: str, name: str) -> bytes:
        """Reads an object."""
        return self.objects[bucket, name][0]

    def copy(self, folder: Path, url: str) -> str:
        """Puts all files of a folder into a directory of a bucket, whose URL it returns."""
        bucket, _, name = url.removeprefix("gs://").partition("/")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return url

    def names(self, bucket: str, start: str = "") -> list[str]:
        """The names that begin so."""
        with self.lock:
            return sorted(n for b, n in self.objects if b == bucket and n.startswith(start))


def start() -> Server:
    """A server, to which TensorStore of this process and of its children goes."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["TENSORSTORE_GCS_HTTP_URL"] = server.url
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "anybody"  # so that none is looked for
    return server


class Killer:
    """A fault that kills `process` at its n-th request that writes below a stage's directory.

    Attributes:
      left: how many are still to come; 0 or less: it is killed.
    """

    def __init__(self, stage: str, count: int, after: bool):
        self.stage, self.left, self.after = stage, count, after
        self.process: Any = None

    def __call__(self, method: str, name: str) -> str | None:
        if method == "GET" or f"/{self.stage}/" not in name or self.process is None:
            return None
        self.left -= 1
        if self.left == 0:
            self.process.kill()
            return "lose" if self.after else "drop"
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        _, bucket, name = re.fullmatch(r".*/b/(([^/]+))/o/?(.*)", url.path).groups()
        name = unquote(name) or query.get("name", "")
        fault = self.server.fault(self.command, name)
        if isinstance(fault, int) or bucket.startswith("none"):
            status = fault if isinstance(fault, int) else 404
            return self._reply(status, json.dumps({"error": {"code": status}}).encode())
        if fault == "drop":
            self.close_connection = True
            return None
        with self.server.lock:
            status, content, generation = self._do(bucket, name, query, body)
        if fault == "lose":
            self.close_connection = True
            return None
        return self._reply(status, content, generation)

    do_GET = do_POST = do_DELETE = _answer

    def _do(
        self, bucket: str, name: str, query: dict[str, str], body: bytes
    ) -> tuple[int, bytes, int]:
        objects = self.server.objects
        content, generation = objects.get((bucket, name), (None, 0))
        if self.command == "GET" and not name:
            return 200, self._list(bucket, query), 0
        if query.get("ifGenerationMatch", str(generation)) != str(generation):
            return 412, b"", 0
        if self.command == "POST":
            self.server.generation += 1
            objects[bucket, name] = body, self.server.generation
            return 200, _described(name, *objects[bucket, name]), self.server.generation
        if content is None:
            return 404, b"", 0
        if self.command == "DELETE":
            del objects[bucket, name]
            return 204, b"", 0
        if query.get("ifGenerationNotMatch") == str(generation):
            return 304, b"", generation
        if query.get("alt") != "media":
            return 200, _described(name, content, generation), generation
        return *self._range(content), generation

    def _range(self, content: bytes) -> tuple[int, bytes]:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return 200, content
        if not asked[1]:
            first, end = max(len(content) - int(asked[2]), 0), len(content)
        else:
            first, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        if first >= len(content):
            return 416, b""
        self.span = f"bytes {first}-{end - 1}/{len(content)}"
        return 206, content[first:end]

    def _list(self, bucket: str, query: dict[str, str]) -> bytes:
        token = bytes.fromhex(query.get("pageToken", "")).decode()
        first = token or query.get("startOffset", "")
        end, start = query.get("endOffset"), query.get("prefix", "")
        found = sorted(
            n
            for b, n in self.server.objects
            if b == bucket and n >= first and (not end or n < end) and n.startswith(start)
        )
        items = [json.loads(_described(n, *self.server.objects[bucket, n])) for n in found[:PAGE]]
        page = {"nextPageToken": found[PAGE].encode().hex()} if len(found) > PAGE else {}
        return json.dumps({"kind": "storage#objects", "items": items} | page).encode()

    span = ""

    def _reply(self, status: int, content: bytes = b"", generation: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if generation:
            self.send_header("x-goog-generation", str(generation))
        if status == 206:
            self.send_header("Content-Range", self.span)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def _described(name: str, content: bytes, generation: int) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = {"name": name, "generation": str(generation), "size": str(len(content))}
    return json.dumps(about | {"updated": now, "timeCreated": now}).encode()
