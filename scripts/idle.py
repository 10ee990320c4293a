#!/usr/bin/env python3
"""What a camera costs that shows nothing new, and how fast the caption follows when the scene is cut.

    scripts/idle.py [--seconds 120] [--captiond target/release/captiond]

A motion-JPEG camera of 640x480 on loopback shows one photo with the noise of a sensor, one frame a second; then another
photo. Needs mosquitto, mosquitto_sub and Pillow with numpy.
"""
import argparse
import http.server
import io
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

import numpy
from PIL import Image

from soak import ROOT, free_port


class Scene:
    def __init__(self):
        self.rng = numpy.random.default_rng(1)
        self.show("cat")

    def show(self, name):
        photo = Image.open(ROOT / f"assets/demo/{name}.jpg").convert("RGB").resize((640, 480))
        self.pixels = numpy.asarray(photo, numpy.float32)

    def jpeg(self):
        noisy = self.pixels + self.rng.normal(0, 2, self.pixels.shape)
        out = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(out, "JPEG", quality=85)
        return out.getvalue()


def serve(scene, wake):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            try:
                while True:
                    body = scene.jpeg()
                    self.wfile.write(b"--b\r\nContent-Length: %d\r\n\r\n" % len(body) + body + b"\r\n")
                    if wake.wait(1):
                        wake.clear()
            except OSError:
                pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=float, default=120)
    args.add_argument("--captiond", default=str(ROOT / "target/release/captiond"))
    args = args.parse_args()
    scene, wake, port = Scene(), threading.Event(), free_port()
    camera = serve(scene, wake)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        (folder / "c.toml").write_text(
            f'bundle = "{ROOT}/models/lite"\nthreads = 1\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n[[camera]]\n'
            f'name = "c"\n[camera.source]\ntype = "http"\nurl = "http://127.0.0.1:{camera}/"\ninterval = "900ms"\n')
        quiet = {"stderr": subprocess.DEVNULL}
        broker = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], **quiet)
        time.sleep(1)
        viewer = subprocess.Popen(["mosquitto_sub", "-p", str(port), "-t", "captiond/c/caption"],
                                  stdout=subprocess.PIPE, text=True)
        daemon = subprocess.Popen([args.captiond, "run", "--config", str(folder / "c.toml")], **quiet)
        try:
            measure(args, scene, wake, viewer, daemon)
        finally:
            for process in (daemon, viewer, broker):
                process.kill()


def measure(args, scene, wake, viewer, daemon):
    captions = []

    def read():
        for line in viewer.stdout:
            captions.append((time.monotonic(), json.loads(line)))

    threading.Thread(target=read, daemon=True).start()
    while not captions:
        time.sleep(0.1)
    time.sleep(5)
    before, cpu, n = time.monotonic(), cpu_s(daemon.pid), len(captions)
    time.sleep(args.seconds)
    share = (cpu_s(daemon.pid) - cpu) / (time.monotonic() - before)
    said = captions[n:]
    print(f"{100 * share:.2f} % of one core over {args.seconds:g} s; "
          f"{len(said)} messages, {sum(c['changed'] for _, c in said)} of them changed")
    for name in ("boats", "officer", "coffee"):
        n, cut = len(captions), time.monotonic()
        scene.show(name)
        wake.set()
        while len(captions) == n:
            time.sleep(0.005)
        at, caption = captions[n]
        latency = caption["latency_ms"]
        inference = sum(latency[key] for key in ("preprocess", "encode", "text"))
        print(f"cut to {name}: caption after {1000 * (at - cut):.0f} ms, of which inference {inference:.0f} ms: "
              f"{caption['caption']} (similarity {caption['similarity']})")
        time.sleep(3)


if __name__ == "__main__":
    main()
