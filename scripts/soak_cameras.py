"""Cameras of every kind that the soak can break and mend."""
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


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

    def start(self):
        """Makes it well, also when it is."""

    def kill(self):
        """Breaks it, and says how."""
        return ""

    def end(self):
        """Leaves nothing behind."""


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
            time.sleep(0.5)
        request.close_connection = True

    def kill(self):
        self.mode = self.rng.choice(["close", "hang", "refuse", "lie"])
        if self.mode == "close":
            server, self.server = self.server, None
            server.shutdown()
            server.server_close()
        return {"close": "its port is closed", "hang": "it hangs", "refuse": "it answers 503 or ends its stream",
                "lie": "a third of each picture, or the stream ends"}[self.mode]


class PipeCamera(Camera):
    """ffmpeg that writes motion JPEG. Killed: by a signal, or stopped."""

    def __init__(self, name, photos, slides, rng):
        self.rng = rng
        slides.mkdir(exist_ok=True)
        for n, path in enumerate(photos.paths[:200]):
            link = slides / f"{n:03}.jpg"
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        self.mark = f"comment={name}-{os.getpid()}"
        # With noise: a sensor is never the same twice.
        command = ["ffmpeg", "-loglevel", "error", "-re", "-loop", "1", "-framerate", "1", "-i", str(slides / "%03d.jpg"),
                   "-vf", "scale=320:320,noise=alls=8:allf=t", "-f", "mjpeg", "-metadata", self.mark, "-"]
        super().__init__(name, f'type = "pipe"\ncommand = {json.dumps(command)}\ninterval = "500ms"')

    def pids(self):
        found = subprocess.run(["pgrep", "-f", self.mark], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def kill(self):
        how = self.rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
        self.send(how)
        return f"its program gets {how.name}"

    def end(self):
        self.send(signal.SIGKILL)

    def send(self, how):
        for pid in self.pids():
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass


class FolderCamera(Camera):
    """Photos that are put into a folder. Killed: the folder is gone, or garbage is put into it."""

    def __init__(self, name, photos, folder, rng):
        self.folder, self.photos, self.rng, self.alive = folder, photos, rng, True
        folder.mkdir(exist_ok=True)
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
            return "its folder is deleted"
        (self.folder / "garbage.jpg").write_bytes(os.urandom(5000))
        return "garbage is put into its folder"


class MqttCamera(Camera):
    """Pictures over MQTT. Killed: silence, or garbage."""

    def __init__(self, name, photos, port, rng):
        self.port, self.photos, self.rng, self.alive = port, photos, rng, True
        super().__init__(name, f'type = "mqtt"\ntopic = "soak/{name}"')
        threading.Thread(target=self.feed, daemon=True).start()

    def publish(self, *what):
        subprocess.run(["mosquitto_pub", "-p", str(self.port), "-t", f"soak/{self.name}", *what],
                       stderr=subprocess.DEVNULL, check=False)

    def feed(self):
        while True:
            if self.alive:
                self.publish("-f", str(self.photos.now(5)))
            time.sleep(2)

    def start(self):
        self.alive = True

    def kill(self):
        self.alive = False
        self.publish("-m", "garbage")
        return "garbage, then silence"


class V4l2Camera(Camera):
    """An emulated USB camera. Killed: unplugged, silent, hanging in its driver, or failing; revived under a new number."""

    def __init__(self, name, photos, dev, rng):
        self.dev, self.photos, self.rng, self.number, self.trouble = dev, photos, rng, 0, ""
        self.lock = threading.Lock()
        self.link = dev / "v4l/by-id/usb-Soak_Camera-video-index0"
        shutil.rmtree(dev, ignore_errors=True)
        self.link.parent.mkdir(parents=True)
        super().__init__(name, f'type = "v4l2"\ndevice = "{self.link}"\nwidth = 640\nheight = 480\ninterval = "500ms"')
        threading.Thread(target=self.feed, daemon=True).start()

    def node(self):
        return self.dev / f"video{self.number}"

    def plug(self):
        scenario = ("card Soak Camera\ndriver uvcvideo\nbus usb-1\nformat MJPG\nsize 640 480 30\nperiod_ms 250\n"
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
                return {"silent": "it is silent", "hang": "its driver hangs"}.get(self.trouble, "its driver fails")
            self.node().unlink(missing_ok=True)
            return "it is unplugged"


class RtspCamera(Camera):
    """H.264 of a real RTSP server. Killed: by a signal, or stopped."""

    def __init__(self, name, photos, folder, rng):
        self.port, self.folder, self.rng, self.process = free_port(), folder, rng, None
        shutil.rmtree(folder, ignore_errors=True)
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
        how = self.rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
        self.process.send_signal(how)
        return f"its server gets {how.name}"

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
