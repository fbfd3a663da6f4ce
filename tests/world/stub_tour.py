"""The guided tour with a stub for the app: ``python -m tests.world.stub_tour FOLDER [STORAGE] [NAME=VALUE ...]``.

The stub says that it runs and does nothing else, so that a test of starting, stopping and dying waits for no app.
Tests of what the app does stay out.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sandbox.host.app import Host
from sandbox.tour.tour import Options, run

STUB = """
import json, os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answers(BaseHTTPRequestHandler):
    def answer(self):
        body = json.dumps({"state": "Running"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer

def end_with_the_starter():
    sys.stdin.read()
    os._exit(0)

print("Executing 'Functions.stub'", flush=True)
if os.environ.get("STUB_ENDS"):
    sys.exit("the stub was told to end")
threading.Thread(target=end_with_the_starter, daemon=True).start()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


def stub_at(port: int) -> Host:
    """The host of a stub that answers at *port*."""
    return Host("a stub", [sys.executable, "-S", "-c", STUB, str(port)])


def main(folder: str, *others: str) -> int:
    """Take the tour; the exit status is the tour's. Its log is in *folder*.

    Of *others*, a connection string names storage that is up; ``patience=`` gives the seconds of a step; the rest are
    settings of the stub.
    """
    settings = dict(each.split("=", 1) for each in others if not each.startswith("DefaultEndpoints"))
    patience = float(settings.pop("patience", 60))
    storage = next((each for each in others if each.startswith("DefaultEndpoints")), "")
    log = Path(folder) / ".sandbox" / "app.log"
    options = Options(True, 0, stub_at, patience, log, tuple(settings.items()), storage)
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
