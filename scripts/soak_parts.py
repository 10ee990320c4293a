"""What a soak runs and looks at: a log, a broker, a daemon, a disk for its queue, a subscriber."""
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.request

# As in systemd/captiond.service.
RESTART_S = 5


def die_with_me():
    """Nothing outlives the driver: a broker or a daemon that nobody watches would spoil the next start."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Log:
    """One JSON object a line; `at` is the time of day in seconds."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.file = path.open("a")

    def say(self, kind, **what):
        with self.lock:
            self.file.write(json.dumps({"at": round(time.time(), 3), "kind": kind, **what}) + "\n")
            self.file.flush()

    def seconds_done(self):
        """How long earlier drivers of this log were at it."""
        total, start, last = 0.0, None, None
        for entry in self.before:
            if entry["kind"] == "leg":
                total += (last - start) if start else 0.0
                start = entry["at"]
            last = entry["at"]
        return total + ((last - start) if start else 0.0)


class Broker:
    """Mosquitto that stores what it acknowledges."""

    def __init__(self, folder, port):
        self.port, self.process = port, None
        store = folder / "broker"
        store.mkdir(exist_ok=True)
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {store}/\n"
            "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nuser root\nlog_dest none\n")

    def start(self):
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.config)], stderr=subprocess.DEVNULL,
                                        preexec_fn=die_with_me)
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Daemon:
    """captiond, started again as systemd would."""

    def __init__(self, args, folder, log, environment, n_runs):
        self.args, self.folder, self.log, self.environment, self.n = args, folder, log, environment, n_runs
        self.config = folder / "captiond.toml"
        self.lock, self.process, self.is_ending = threading.Lock(), None, False

    def start(self):
        self.n += 1
        output = (self.folder / f"daemon-{self.n:03}.log").open("w")
        # Each new caption has a line: what a subscriber is to get is known from there.
        command = [self.args.captiond, "--log", "warn,captiond=info,captiond::mqtt::publisher=debug", "--log-format", "json", "run",
                   "--config", str(self.config)]
        self.process = subprocess.Popen(command, stderr=output, env=self.environment, preexec_fn=die_with_me)
        self.log.say("run", n=self.n, pid=self.process.pid)

    def watch(self):
        while True:
            code = self.process.wait()
            self.log.say("exit", n=self.n, code=code)
            if self.is_ending:
                return
            time.sleep(RESTART_S)
            self.start()

    def signal(self, number):
        self.process.send_signal(number)


class Disk:
    """A file system of its own for the queue, which can be full."""

    def __init__(self, folder, log):
        self.folder, self.image = folder / "queue", folder / "queue.img"
        self.folder.mkdir(exist_ok=True)
        self.is_own = os.path.ismount(self.folder)
        if self.is_own:
            self.free()
        elif os.geteuid() == 0:
            made = ["truncate", "-s", "24M", self.image], ["mkfs.ext4", "-q", "-F", "-m", "0", self.image]
            if not self.image.exists():
                for command in made:
                    subprocess.run(command, check=True)
            mounted = subprocess.run(["mount", "-o", "loop", self.image, self.folder], capture_output=True, check=False)
            self.is_own = mounted.returncode == 0
        if not self.is_own:
            log.say("skipped", why="only root can mount a disk of its own for the queue: it is never full")

    def fill(self):
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1 << 8, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    pass

    def free(self):
        (self.folder / "ballast").unlink(missing_ok=True)

    def end(self):
        if self.is_own:
            subprocess.run(["umount", self.folder], check=False)


class Subscriber:
    """Writes down everything that is published, and knows when each camera was last heard of."""

    FORMAT = '{"received":%U,"topic":"%t","retained":%r,"payload":%p}'

    def __init__(self, folder, port):
        self.path = folder / "received.jsonl"
        self.fresh, self.events = {}, []
        topics = ["captiond/+/caption", "captiond/+/answer", "captiond/bridge/event", "captiond/bridge/stats"]
        command = ["mosquitto_sub", "-V", "mqttv5", "-c", "-x", "86400", "-i", "soak-subscriber", "-q", "1", "-p", str(port),
                   "-F", self.FORMAT]
        for topic in topics:
            command += ["-t", topic]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        preexec_fn=die_with_me)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with self.path.open("ab", buffering=0) as out:
            for line in self.process.stdout:
                out.write(line)
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                payload = message["payload"]
                if message["topic"].endswith("/caption") and payload.get("changed") and not payload.get("late"):
                    self.fresh[payload["camera"]] = time.time()
                if message["topic"].endswith("bridge/event"):
                    self.events.append((time.time(), payload["event_type"]))

    def heard(self, event, since):
        return any(at >= since and kind == event for at, kind in self.events)


def metrics(port):
    """Every line of /metrics by its name with labels; none when nobody answers in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def of_process(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        value = lambda key: int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])
        ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return {"rss_kb": value("VmRSS:"), "anon_kb": value("RssAnon:"), "file_kb": value("RssFile:"), "threads": value("Threads:"), "fds": len(os.listdir(f"/proc/{pid}/fd")),
                "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")}
    except (OSError, StopIteration):
        return {}


def build_heap_probe(folder):
    """What is preloaded to see what the allocator has in use; None where it cannot be built."""
    library = folder / "soak_heap.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-pthread", "-o", library, pathlib.Path(__file__).parent / "soak_heap.c"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def heap_in_use(path, since):
    """Of the last line of the probe: bytes that the heaps have, that are in use there, and mapped apart. Nothing when that
    is from before `since`, or there is none."""
    try:
        *_, last = path.read_text().splitlines()
        at, heaps, in_use, apart = map(int, last.split())
    except (OSError, ValueError):
        return {}
    return {"heaps_kb": heaps // 1024, "in_use_kb": (in_use + apart) // 1024} if at >= since else {}


def neighbours():
    """What else uses the processor: names alone, since command lines may hold anything."""
    top = subprocess.run(["ps", "-eo", "pcpu=,comm=", "--sort=-pcpu"], capture_output=True, text=True, check=False).stdout
    return [line.split(None, 1) for line in top.splitlines()[:8] if float(line.split(None, 1)[0]) >= 5]
