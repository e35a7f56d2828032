"""Reads gs://bucket/model through convert, from a server of Google's storage API on this machine.

Prints how many tensors there are, the sum of all numbers, and the bytes of the file `checkpoint`,
read as a vocabulary is. The argument is the directory that
the bucket holds as `model`.
"""

import contextlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

ROOT = Path(sys.argv[1])


class Bucket(BaseHTTPRequestHandler):
    """Lists objects and gives their content."""

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        name = unquote(url.path.partition("/o/")[2])
        objects = {f"model/{p.relative_to(ROOT)}": p for p in ROOT.rglob("*") if p.is_file()}
        if not name:
            first, end = query.get("startOffset", ""), query.get("endOffset", "~")
            found = [key for key in sorted(objects) if first <= key < end]
            self.reply(json.dumps({"items": [describe(k, objects[k]) for k in found]}).encode())
        elif name not in objects:
            self.send_error(404)
        elif query.get("alt") == "media":
            self.reply(objects[name].read_bytes())
        else:
            self.reply(json.dumps(describe(name, objects[name])).encode())

    def reply(self, content: bytes):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-goog-generation", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def describe(name: str, path: Path) -> dict[str, str]:
    """An object's metadata."""
    return {"name": name, "generation": "1", "size": str(path.stat().st_size)}


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["TENSORSTORE_GCS_HTTP_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
    from promot_jax.convert import t5x, t5x_files  # TensorStore reads the address when it starts

    tensors = t5x.read("gs://bucket/model/").tensors
    total = sum(float(x.read().astype(np.float64).sum()) for x in tensors.values())
    size = len(t5x_files.read_bytes("gs://bucket/model/checkpoint_1/checkpoint"))
    print(len(tensors), repr(total), size)
    with contextlib.suppress(FileNotFoundError):
        sys.exit(f"read {t5x_files.read_bytes('gs://bucket/model/none')}")
    sys.exit("tensorflow" in sys.modules)
