"""A worker's process, as far as the reloader knows it: says what stands in a file, and obeys."""

import signal
import sys
from pathlib import Path

from taskq.worker.reloading import read_start

if __name__ == "__main__":
    start = read_start(sys.stdin.buffer.readline())
    text = Path(start.settings.app).read_text()
    if "broken" in text:
        sys.exit("cannot be imported")
    terms = 0

    def on_term(number: int, frame: object) -> None:
        global terms
        terms += 1
        print("told to stop", flush=True)
        if "stubborn" not in text or terms > 1:
            sys.exit()

    signal.signal(signal.SIGTERM, on_term)
    print(f"runs {text}", flush=True)
    sys.stdin.read()
