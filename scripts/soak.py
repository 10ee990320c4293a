#!/usr/bin/env python3
"""Runs the daemon on cameras of every kind for a while, kills and revives each of them at random, and reports.

    scripts/soak.py --photos DIR [--minutes 20] [--captiond target/release/captiond] [--out FOLDER]

Servers, programs, broker and daemon are real processes on loopback. It fails (exit code 1) when a camera does not come
back, when threads or files leak, or when resident memory grows after the warm-up by more than a megabyte an hour, unless
that may be noise. Needs mosquitto and mosquitto_sub; ffmpeg for one camera, GStreamer's RTSP server and a captiond with
the feature `rtsp` for another, the emulator of the tests (crates/v4l2-shim) for a third: what is missing is left out.
"""
import argparse
import http.server
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP_SHARE = 0.25


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Photos:
    """A new photo every two seconds, the same for everybody who asks in between."""

    def __init__(self, folder):
        self.paths = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix in (".jpg", ".jpeg"))[:2000]
        if len(self.paths) < 2:
            sys.exit(f"{folder}: at least two JPEGs are needed")

    def now(self, salt):
        return self.paths[(int(time.monotonic() / 2) + salt * 131) % len(self.paths)]


class Camera:
    """Something that can be killed and revived."""

    def __init__(self, name, source):
        self.name, self.source = name, source
        self.deaths = 0

    def start(self): ...
    def kill(self): ...
    def end(self): ...


class HttpCamera(Camera):
    """A snapshot or a motion-JPEG stream. Killed: the port is closed, or everything hangs, or it lies."""

    def __init__(self, name, photos, salt, stream, rng):
        self.port, self.photos, self.salt, self.stream, self.rng = free_port(), photos, salt, stream, rng
        super().__init__(name, f'type = "http"\nurl = "http://127.0.0.1:{self.port}/x"\ninterval = "500ms"')
        self.mode, self.server = "well", None

    def start(self):
        self.mode = "well"
        if self.server is not None:
            return
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                try:
                    camera.stream_to(self) if camera.stream else camera.snapshot_to(self)
                except OSError:
                    pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def photo(self):
        return self.photos.now(self.salt).read_bytes()

    def wait_while_hanging(self):
        while self.mode == "hang":
            time.sleep(0.1)

    def snapshot_to(self, request):
        self.wait_while_hanging()
        body = self.photo()
        if self.mode == "lie":
            body = body[: len(body) // 3]
        request.send_response(503 if self.mode == "refuse" else 200)
        request.send_header("Content-Type", "image/jpeg")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def stream_to(self, request):
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        request.end_headers()
        server = self.server
        while server is self.server and self.mode in ("well", "hang"):
            self.wait_while_hanging()
            body = self.photo()
            request.wfile.write(b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
            request.wfile.write(body + b"\r\n")
            time.sleep(0.2)
        request.close_connection = True

    def kill(self):
        self.mode = self.rng.choice(["close", "hang", "refuse", "lie"])
        if self.mode == "close":
            server, self.server = self.server, None
            server.shutdown()
            server.server_close()


class PipeCamera(Camera):
    """ffmpeg that writes motion JPEG. Killed: by a signal, or stopped."""

    def __init__(self, name, photos, rng):
        self.rng = rng
        # A picture with noise: a sensor is never the same twice.
        command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i",
                   "testsrc=size=640x480:rate=5,noise=alls=20:allf=t", "-f", "mjpeg", "-metadata", f"comment={name}", "-"]
        super().__init__(name, f'type = "pipe"\ncommand = {json.dumps(command)}\ninterval = "500ms"')

    def pids(self):
        found = subprocess.run(["pgrep", "-f", f"comment={self.name}"], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def kill(self):
        how = self.rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
        for pid in self.pids():
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass


class FolderCamera(Camera):
    """Photos that are put into a folder. Killed: the folder is gone, or garbage is put into it."""

    def __init__(self, name, photos, folder, rng):
        self.folder, self.photos, self.rng, self.alive = folder, photos, rng, True
        folder.mkdir()
        super().__init__(name, f'type = "folder"\npath = "{folder}"\ninterval = "500ms"')
        threading.Thread(target=self.feed, daemon=True).start()

    def feed(self):
        n = 0
        while True:
            if self.alive:
                try:
                    n += 1
                    target = self.folder / f"{n % 20:02}.jpg"
                    shutil.copyfile(self.photos.now(3), target)
                except OSError:
                    pass
            time.sleep(1)

    def start(self):
        self.folder.mkdir(exist_ok=True)
        self.alive = True

    def kill(self):
        if self.rng.random() < 0.5:
            self.alive = False
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            (self.folder / "garbage.jpg").write_bytes(os.urandom(5000))


class MqttCamera(Camera):
    """Pictures over MQTT. Killed: silence, or garbage."""

    def __init__(self, name, photos, port, rng):
        self.port, self.photos, self.rng, self.alive = port, photos, rng, True
        super().__init__(name, f'type = "mqtt"\ntopic = "soak/{name}"')
        threading.Thread(target=self.feed, daemon=True).start()

    def publish(self, *what):
        subprocess.run(["mosquitto_pub", "-p", str(self.port), "-t", f"soak/{self.name}", *what], check=False)

    def feed(self):
        while True:
            if self.alive:
                self.publish("-f", str(self.photos.now(5)))
            time.sleep(1.5)

    def start(self):
        self.alive = True

    def kill(self):
        self.alive = False
        self.publish("-m", "garbage")


class V4l2Camera(Camera):
    """An emulated USB camera. Killed: unplugged, silent, hanging in its driver, or failing; revived under a new number."""

    def __init__(self, name, photos, dev, rng):
        self.dev, self.photos, self.rng, self.number, self.trouble = dev, photos, rng, 0, ""
        self.lock = threading.Lock()
        self.link = dev / "v4l/by-id/usb-Soak_Camera-video-index0"
        self.link.parent.mkdir(parents=True)
        super().__init__(name, f'type = "v4l2"\ndevice = "{self.link}"\nwidth = 640\nheight = 480\ninterval = "500ms"')
        threading.Thread(target=self.feed, daemon=True).start()

    def node(self):
        return self.dev / f"video{self.number}"

    def plug(self):
        scenario = ("card Soak Camera\ndriver uvcvideo\nbus usb-1\nformat MJPG\nsize 640 480 30\nperiod_ms 100\n"
                    f"serial {self.number}\nframe {self.photos.now(6)}\n{self.trouble}\n")
        new = self.dev / "new"
        new.write_text(scenario)
        new.rename(self.node())

    def feed(self):
        while True:
            with self.lock:
                if self.node().exists():
                    self.plug()
            time.sleep(1)

    def start(self):
        with self.lock:
            self.node().unlink(missing_ok=True)
            self.number += 1
            self.trouble = ""
            self.plug()
            new = self.dev / "new-link"
            new.symlink_to(f"../../video{self.number}")
            new.rename(self.link)

    def kill(self):
        with self.lock:
            self.trouble = self.rng.choice(["", "silent", "fail DQBUF 5", "hang"])
            if self.trouble:
                self.plug()
            else:
                self.node().unlink(missing_ok=True)


class RtspCamera(Camera):
    """H.264 of a real RTSP server. Killed: by a signal, or stopped."""

    def __init__(self, name, photos, folder, rng):
        self.port, self.folder, self.rng, self.process = free_port(), folder, rng, None
        folder.mkdir()
        for n, path in enumerate(photos.paths[:60]):
            (folder / f"{n:03}.jpg").symlink_to(path.resolve())
        self.still = photos.paths[0]
        super().__init__(name, f'type = "rtsp"\nurl = "rtsp://127.0.0.1:{self.port}/slides"\ninterval = "500ms"')

    @staticmethod
    def is_possible(captiond, folder):
        config = folder / "rtsp.toml"
        config.write_text('[[camera]]\nname = "a"\n[camera.source]\ntype = "rtsp"\nurl = "rtsp://127.0.0.1/a"\n')
        check = subprocess.run([captiond, "check", "--config", config], capture_output=True, text=True, check=False)
        if check.returncode:
            return "captiond was built without the feature rtsp"
        script = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, check=False).returncode:
            return "gir1.2-gst-rtsp-server-1.0 is not installed"
        return ""

    def start(self):
        self.end()
        server = [ROOT / "tests/support/rtsp_server.py", self.still, str(self.port), self.folder]
        self.process = subprocess.Popen(
            ["/usr/bin/python3", *map(str, server)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.send_signal(self.rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM]))

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Watcher:
    """What a subscriber sees."""

    def __init__(self, port):
        self.captions, self.last, self.counters, self.states = {}, {}, {}, {}
        self.process = subprocess.Popen(
            ["mosquitto_sub", "-p", str(port), "-t", "captiond/#", "-v"], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            topic, _, payload = line.rstrip("\n").partition(" ")
            camera, leaf = topic.split("/")[1:3]
            if leaf == "availability":
                self.states[camera] = payload
            if leaf == "caption":
                caption = json.loads(payload)
                self.captions[camera] = self.captions.get(camera, 0) + 1
                self.counters[camera] = caption["counters"]
                self.last[camera] = time.monotonic()


def sample(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    value = lambda key: int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])
    return {"rss_kb": value("VmRSS:"), "threads": value("Threads:"), "fds": len(os.listdir(f"/proc/{pid}/fd"))}


def slope(points):
    """Median of the slopes between all pairs (Theil and Sen), which one spike does not move, with its 95 % interval; units
    of y an hour."""
    n = len(points)
    slopes = sorted(
        3600 * (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1:] if x2 > x1)
    # Neighbouring samples resemble each other: an eighth of them counts as independent.
    independent = n / 8
    spread = 1.96 * (independent * (independent - 1) * (2 * independent + 5) / 18) ** 0.5
    share = spread / (independent * (independent - 1) / 2)
    at = lambda q: slopes[min(max(int(q * (len(slopes) - 1)), 0), len(slopes) - 1)]
    return at(0.5), at(0.5 - share / 2), at(0.5 + share / 2)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--photos", required=True)
    args.add_argument("--minutes", type=float, default=20)
    args.add_argument("--captiond", default=str(ROOT / "target/release/captiond"))
    args.add_argument("--shim", default=str(ROOT / "target/release/deps/libv4l2_shim.so"),
                      help="the emulator of a USB camera, which building the tests builds")
    args.add_argument("--extra", action="append", default=[], help="NAME=FILE: another camera's source, never killed")
    args.add_argument("--only", default="", help="the names of the cameras to be there, with commas; all without it")
    args.add_argument("--pace", type=float, default=1, help="kill so many times as often, and revive as much sooner")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--out", default="", help="write the samples as JSON lines and the report into this folder")
    args = args.parse_args()
    rng, photos = random.Random(args.seed), Photos(args.photos)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sys.exit(0 if run(args, rng, photos, pathlib.Path(folder)) else 1)


def run(args, rng, photos, folder):
    port = free_port()
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
    cameras = [
        HttpCamera("snap-a", photos, 1, False, rng), HttpCamera("snap-b", photos, 2, False, rng),
        HttpCamera("stream-a", photos, 3, True, rng), HttpCamera("stream-b", photos, 4, True, rng),
        FolderCamera("folder", photos, folder / "photos", rng), MqttCamera("mqtt", photos, port, rng),
    ]
    if shutil.which("ffmpeg"):
        cameras.append(PipeCamera("pipe", photos, rng))
    else:
        print("skipped: ffmpeg is not installed, so there is no camera behind a program")
    environment = dict(os.environ)
    shim = pathlib.Path(args.shim).resolve()
    if shim.is_file():
        cameras.append(V4l2Camera("usb", photos, folder / "dev", rng))
        environment |= {"LD_PRELOAD": str(shim), "V4L2_SHIM_ROOT": str(folder / "dev")}
    else:
        print(f"skipped: {shim} is not built, so there is no USB camera")
    if why := RtspCamera.is_possible(args.captiond, folder):
        print(f"skipped: {why}, so there is no RTSP camera")
    else:
        cameras.append(RtspCamera("rtsp", photos, folder / "slides", rng))
    if args.only:
        cameras = [camera for camera in cameras if camera.name in args.only.split(",")]
    steady = [Camera("replay", f'type = "replay"\npath = "{pathlib.Path(args.photos).resolve()}"\ninterval = "2s"')]
    for extra in args.extra:
        name, _, file = extra.partition("=")
        steady.append(Camera(name, pathlib.Path(file).read_text()))
    config = [f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n']
    for camera in cameras + steady:
        camera.start()
        config.append(f'[[camera]]\nname = "{camera.name}"\nmin_interval = "1s"\n[camera.source]\n{camera.source}\n')
    (folder / "captiond.toml").write_text("\n".join(config))
    watcher = Watcher(port)
    log = open(folder / "captiond.log", "w")
    daemon = subprocess.Popen([args.captiond, "run", "--config", str(folder / "captiond.toml")], stderr=log, env=environment)
    samples = []
    try:
        samples = drive(args, rng, cameras, watcher, daemon, folder / "captiond.log")
        back = revive(cameras, steady, watcher, daemon)
        daemon.send_signal(signal.SIGTERM)
        stopped = daemon.wait(15)
    finally:
        for process in (daemon, watcher.process, broker):
            process.kill()
            process.wait()
        for camera in cameras:
            camera.end()
    return report(args, cameras, steady, watcher, samples, back, stopped, folder)


def drive(args, rng, cameras, watcher, daemon, log):
    """Kills and revives until the time is over; a sample every two seconds."""
    start, samples, dead = time.monotonic(), [], {}
    length = args.minutes * 60
    quiet = min(30, length / 6)
    while (now := time.monotonic() - start) < length:
        if daemon.poll() is not None:
            raise SystemExit(f"the daemon ended with {daemon.returncode}:\n{log.read_text()[-2000:]}")
        for camera in list(dead):
            if now >= dead[camera]:
                camera.start()
                del dead[camera]
        if quiet < now < length - quiet and rng.random() < min(0.4, 40 * len(cameras) / length) * args.pace:
            camera = rng.choice([c for c in cameras if c not in dead] or cameras)
            if camera not in dead:
                camera.kill()
                camera.deaths += 1
                dead[camera] = now + rng.uniform(1, 25) / args.pace
        samples.append({"at_s": round(now, 1), **sample(daemon.pid), "captions": sum(watcher.captions.values())})
        if len(samples) % 30 == 0:
            print(f"{now / 60:5.1f} min: {samples[-1]}, down: {[c.name for c in dead]}", flush=True)
        time.sleep(2)
    for camera in dead:
        camera.start()
    return samples


def revive(cameras, steady, watcher, daemon):
    """Which cameras give a caption after everything was revived. Pictures change, so a well one gives one soon."""
    start = time.monotonic()
    names = {camera.name for camera in cameras + steady}
    back = set()
    while time.monotonic() - start < 75 and back != names and daemon.poll() is None:
        back = {name for name in names if watcher.last.get(name, 0) > start}
        time.sleep(0.5)
    return back


def report(args, cameras, steady, watcher, samples, back, stopped, folder):
    warm = [s for s in samples if s["at_s"] >= samples[-1]["at_s"] * WARM_UP_SHARE]
    growth, low, high = slope([(s["at_s"], s["rss_kb"] / 1024) for s in warm])
    third = max(len(warm) // 3, 1)
    spread = lambda key: (max(s[key] for s in warm[:third]), max(s[key] for s in warm[-third:]))
    (threads, threads_end), (fds, fds_end) = spread("threads"), spread("fds")
    lost = sorted({c.name for c in cameras + steady} - back)
    lines = [f"{args.minutes:g} minutes, {len(cameras) + len(steady)} cameras, seed {args.seed}"]
    for camera in cameras + steady:
        counters = watcher.counters.get(camera.name, {})
        lines.append(f"  {camera.name:9} killed {camera.deaths:2}, captions {watcher.captions.get(camera.name, 0):4}, {counters}")
    lines += [
        f"resident memory after the warm-up: {warm[0]['rss_kb']} to {warm[-1]['rss_kb']} kB, "
        f"{growth:+.2f} MB an hour ({low:+.2f} to {high:+.2f})",
        f"threads: {threads} at most in the first third after the warm-up, {threads_end} in the last; files: {fds} and {fds_end}",
        f"did not come back: {', '.join(lost) or 'none'}; exit code {stopped}",
    ]
    # A short run cannot tell a megabyte an hour from noise; it says so by its interval.
    verdicts = {
        "every camera came back": not lost,
        "memory does not grow by more than a megabyte an hour": growth <= 1.0 or low <= 0.0,
        "no thread and no file leaks": threads_end <= threads + 1 and fds_end <= fds + 3,
        "orderly end": stopped == 0,
    }
    lines += [f"{'ok  ' if good else 'FAIL'} {what}" for what, good in verdicts.items()]
    text = "\n".join(lines)
    print(text)
    if not all(verdicts.values()):
        print((folder / "captiond.log").read_text()[-4000:])
    if args.out:
        out = pathlib.Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.txt").write_text(text + "\n")
        (out / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
        shutil.copyfile(folder / "captiond.log", out / "captiond.log")
    return all(verdicts.values())


if __name__ == "__main__":
    main()
