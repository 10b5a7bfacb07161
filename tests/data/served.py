"""File systems for tests: a server of ranges that can fail, and memory that answers late."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class Late(MemoryFileSystem):
    """Memory in which every range takes a while, or fails."""

    protocol = "late"
    store: ClassVar[dict[str, Any]] = {}
    seconds: ClassVar[float] = 0.0
    failures: ClassVar[list[Exception]] = []
    reads: ClassVar[int] = 0
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("late://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return _Late(self.store[path].getvalue()) if mode == "rb" else super()._open(path, mode, **kwargs)


class _Late(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        Late.reads += 1
        time.sleep(Late.seconds)
        if Late.failures:
            raise Late.failures.pop(0)
        return super().read(size)


@contextmanager
def served(
    folder: Path, ranges: bool = True, route: Callable[[str], bytes | Path] | None = None
) -> Iterator[tuple[str, list[int]]]:
    """The files of a folder by http, with or without ranges; yields the address, and a list of statuses to answer with first.

    Args:
        route: from what is asked for to what is answered, or the file that is; None takes it for the file's name.
    """
    failing: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or an answer waits 40 ms between its head and its body

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = route(self.path) if route else folder / self.path.partition("?")[0].lstrip("/")
            there = isinstance(path, bytes) or path.exists()
            status = failing.pop(0) if failing and body else 200 if there else 404
            data = b"" if status != 200 else path if isinstance(path, bytes) else self._contents(path)
            total = len(data)
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if ranges and asked and status == 200:
                status, data = 206, data[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) if body else total))
            if status == 206 and asked:
                self.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{total}")
            self.send_header("Accept-Ranges", "bytes" if ranges else "none")
            self.end_headers()
            if body:
                self.wfile.write(data)

        def _contents(self, path: Path) -> bytes:
            if path.is_file():
                return path.read_bytes()
            return "".join(f'<a href="{one.name}">{one.name}</a>\n' for one in sorted(path.iterdir())).encode()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", failing
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
