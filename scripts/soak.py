#!/usr/bin/env python3
"""Runs the daemon for hours on cameras of every kind, breaks one thing after another, and counts every caption.

    scripts/soak.py --photos DIR [--minutes 120] [--captiond /usr/bin/captiond] [--out FOLDER]
    scripts/soak.py --report --out FOLDER [--write-docs]

Servers, programs, broker, disk and daemon are real, on loopback. Everything that happens goes to FOLDER/log.jsonl; a run
that was interrupted goes on where that ends when it is started again with the same FOLDER. `--report` judges what is
there; the exit code is 1 when a verdict fails (scripts/soak_report.py). Needs mosquitto and mosquitto_sub; ffmpeg for
one camera, GStreamer's RTSP server and a captiond with the feature `rtsp` for another, the emulator of the tests
(crates/v4l2-shim) for a third, root for a disk that can be filled: what is missing is left out, and said.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from soak_cameras import (ROOT, Camera, FolderCamera, HttpCamera, MqttCamera, Photos, PipeCamera, RtspCamera, V4l2Camera,
                          free_port)
from soak_parts import (RESTART_S, Broker, Daemon, Disk, Log, Subscriber, build_heap_probe, heap_in_use, metrics,
                        neighbours, of_process)
from soak_report import report

SAMPLE_S = 10
RECOVERY_S_MAX = 180


class Soak:
    """Everything that runs, and what can happen to it."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.log = Log(folder / "log.jsonl")
        self.rng, photos = random.Random(args.seed), Photos(args.photos)
        ports = folder / "ports.json"
        if not ports.exists():
            ports.write_text(json.dumps([free_port(), free_port()]))
        self.mqtt_port, self.http_port = json.loads(ports.read_text())
        self.done_s = self.log.seconds_done()
        self.disk = Disk(folder, self.log)
        self.broker = Broker(folder, self.mqtt_port)
        self.broker.start()
        self.subscriber = Subscriber(folder, self.mqtt_port)
        self.cameras, environment = self.make_cameras(photos)
        self.steady = [Camera("replay", f'type = "replay"\npath = "{pathlib.Path(args.photos).resolve()}"\ninterval = "2s"')]
        for camera in self.cameras:
            camera.start()
        n_runs = sum(entry["kind"] == "run" for entry in self.log.before)
        self.daemon = Daemon(args, folder, self.log, environment, n_runs)
        self.daemon.config.write_text(self.configuration())
        self.log.say("leg", done_s=round(self.done_s, 1), cameras=[c.name for c in self.cameras + self.steady], seed=args.seed,
                     minutes=args.minutes, version=self.version(), photos=len(photos.paths))
        self.daemon.start()
        threading.Thread(target=self.daemon.watch, daemon=True).start()
        self.is_sampling = True
        threading.Thread(target=self.sample, daemon=True).start()

    def version(self):
        answer = subprocess.run([self.args.captiond, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        return {"captiond": answer, "commit": self.args.commit, "kernel": os.uname().release, "cores": os.cpu_count()}

    def make_cameras(self, photos):
        args, folder, rng = self.args, self.folder, self.rng
        cameras = [
            HttpCamera("snap", photos, 1, False, rng), HttpCamera("stream", photos, 3, True, rng),
            FolderCamera("folder", photos, folder / "photos", rng), MqttCamera("mqtt", photos, self.mqtt_port, rng),
        ]
        if shutil.which("ffmpeg"):
            cameras.append(PipeCamera("pipe", photos, folder / "slides", rng))
        else:
            self.log.say("skipped", why="ffmpeg is not installed, so there is no camera behind a program")
        environment, shim, preload = dict(os.environ), pathlib.Path(args.shim).resolve(), []
        if shim.is_file():
            cameras.append(V4l2Camera("usb", photos, folder / "dev", rng))
            environment["V4L2_SHIM_ROOT"] = str(folder / "dev")
            preload.append(str(shim))
        else:
            self.log.say("skipped", why="the emulator of a USB camera is not built")
        if probe := build_heap_probe(folder):
            environment["SOAK_HEAP"] = str(folder / "heap")
            preload.append(str(probe))
        else:
            self.log.say("skipped", why="there is no C compiler, so nothing is known of the heap's inside")
        environment["LD_PRELOAD"] = ":".join(preload)
        if why := RtspCamera.is_possible(args.captiond, folder):
            self.log.say("skipped", why=f"{why}, so there is no RTSP camera")
        else:
            cameras.append(RtspCamera("rtsp", photos, folder / "rtsp", rng))
        return cameras, environment

    def configuration(self, interval="3s"):
        """Nothing is confirmed and nothing renewed: every caption that is logged is of a new scene, and has to arrive."""
        bundle = f'bundle = "{self.args.bundle}"\n' if self.args.bundle else ""
        parts = [f'{bundle}[mqtt]\nhost = "127.0.0.1"\nport = {self.mqtt_port}\nkeep_alive = "10s"\nclient_id = "soak"\n'
                 f'queue_dir = "{self.disk.folder}"\n[http]\nlisten = "127.0.0.1:{self.http_port}"\n']
        for camera in self.cameras + self.steady:
            parts.append(f'[[camera]]\nname = "{camera.name}"\nmin_interval = "{interval}"\nheartbeat = "1day"\n'
                         f'[camera.gate]\nrefresh = "1day"\ndeviations = 0\n[camera.source]\n{camera.source}\n')
        return "\n".join(parts)

    def sample(self):
        n = 0
        while self.is_sampling:
            process, run = of_process(self.daemon.process.pid), self.daemon.n
            process |= heap_in_use(self.folder / "heap", time.time() - SAMPLE_S - 5)
            answer = metrics(self.http_port) or {}
            kept = {name: value for name, value in answer.items()
                    if "_bucket" not in name or 'stage="total"' in name}
            more = {"neighbours": neighbours()} if n % 30 == 0 else {}
            self.log.say("sample", n=run, **process, metrics=kept, load=os.getloadavg()[0], **more)
            n += 1
            time.sleep(SAMPLE_S)

    def trouble(self, since):
        """What is not well since then; empty when all is."""
        answer = metrics(self.http_port)
        if answer is None:
            return "the daemon does not answer"
        if not answer.get("captiond_broker_up"):
            return "the daemon has no broker"
        if answer.get("captiond_queue_messages"):
            return "captions wait on disk"
        silent = [c.name for c in self.cameras + self.steady if self.subscriber.fresh.get(c.name, 0) <= since]
        return f"no caption of {', '.join(silent)}" if silent else ""

    def recover(self, since):
        """Seconds until every camera was heard of again and nothing waits; none when that takes too long."""
        why = "not looked at"
        while time.time() - since < RECOVERY_S_MAX:
            if not (why := self.trouble(since)):
                return round(time.time() - since, 1), ""
            time.sleep(0.5)
        return None, why

    def ask(self, n):
        for i in range(n):
            camera = self.rng.choice(self.cameras + self.steady).name
            subprocess.run(["mosquitto_pub", "-p", str(self.mqtt_port), "-q", "1", "-t", f"captiond/{camera}/ask", "-m",
                            json.dumps({"question": "is there a dog?", "transaction": f"{time.time():.3f}-{i}"})],
                           stderr=subprocess.DEVNULL, check=False)

    # What happens. Each returns what it did, when it is over.

    def camera_dies(self, camera, pause):
        how = camera.kill()
        pause(5, 40)
        camera.start()
        return how

    def broker_dies(self, pause):
        self.broker.kill()
        pause(5, 45)
        self.broker.start()

    def broker_stalls(self, pause):
        self.broker.process.send_signal(signal.SIGSTOP)
        pause(5, 40)
        self.broker.process.send_signal(signal.SIGCONT)

    def daemon_stalls(self, pause):
        self.daemon.signal(signal.SIGSTOP)
        pause(3, 30)
        self.daemon.signal(signal.SIGCONT)

    def daemon_dies(self, pause):
        self.daemon.signal(signal.SIGKILL)
        pause(RESTART_S, RESTART_S + 1)

    def daemon_dies_without_a_broker(self, pause):
        self.broker.kill()
        pause(10, 20)
        self.daemon.signal(signal.SIGKILL)
        pause(10, 20)
        self.broker.start()

    def disk_is_full_without_a_broker(self, pause):
        self.broker.kill()
        self.disk.fill()
        pause(10, 25)
        self.disk.free()
        pause(5, 10)
        self.broker.start()

    def reload(self, text, event, pause):
        since = time.time()
        before = self.daemon.config.read_text()
        self.daemon.config.write_text(text)
        self.daemon.signal(signal.SIGHUP)
        while not self.subscriber.heard(event, since) and time.time() - since < 30:
            time.sleep(0.2)
        pause(5, 10)
        if event == "config_refused":
            self.daemon.config.write_text(before)
        return "" if self.subscriber.heard(event, since) else f"no event {event}"

    def faults(self, may_kill):
        """Once everything that can happen, in an order that the seed tells."""
        change = self.configuration(self.rng.choice(["2s", "3s", "4s"]))
        each = [(f"camera {c.name} breaks", lambda pause, c=c: self.camera_dies(c, pause)) for c in self.cameras]
        each += [
            ("broker killed", self.broker_dies), ("broker stopped for a while", self.broker_stalls),
            ("daemon stopped for a while", self.daemon_stalls),
            ("another configuration", lambda pause: self.reload(change, "config_reloaded", pause)),
            ("a broken configuration", lambda pause: self.reload("[mqtt]\nprot = 1\n", "config_refused", pause)),
            ("a flood of questions", lambda pause: self.ask(30)),
        ]
        if self.disk.is_own:
            each.append(("disk full while the broker is away", self.disk_is_full_without_a_broker))
        if may_kill:
            each += 2 * [("daemon killed", self.daemon_dies),
                         ("daemon killed while the broker is away", self.daemon_dies_without_a_broker)]
        self.rng.shuffle(each)
        return each

    def elapsed(self, leg):
        return self.done_s + time.time() - leg

    def drive(self):
        """A fault, then quiet, until the time is over. The daemon is killed in the first round of faults alone, so that what
        grows slowly has all the rest to show itself."""
        leg, length = time.time(), self.args.minutes * 60
        every = min(self.args.every, length / 10)
        waited, why = self.recover(leg)
        self.log.say("started", took_s=waited, why=why)
        waiting, is_first, due = [], True, time.time() + every
        while self.elapsed(leg) < length - every:
            if not waiting:
                waiting = self.faults(is_first and self.elapsed(leg) < length / 2)
                is_first = False
            while time.time() < due:
                self.ask(1)
                time.sleep(min(15, max(due - time.time(), 0)))
            due += every
            name, act = waiting.pop()
            self.inject(name, act)
            due = max(due, time.time() + 10)
        while self.elapsed(leg) < length:
            time.sleep(1)

    def inject(self, name, act):
        since = time.time()
        dropped = lambda: sum(v for k, v in (metrics(self.http_port) or {}).items() if k.startswith("captiond_dropped_total"))
        dropped_before = dropped()
        self.log.say("fault", name=name)
        how = act(lambda low, high: time.sleep(self.rng.uniform(low, high))) or ""
        until = time.time()
        took, why = self.recover(until)
        self.log.say("recovered", name=name, how=how, since=round(since, 3), until=round(until, 3), took_s=took, why=why,
                     dropped=dropped() - dropped_before)
        print(f"{name} ({how}): {took} s {why}", flush=True)

    def end(self):
        """All is well once more, then an orderly end."""
        took, why = self.recover(time.time())
        self.log.say("last", took_s=took, why=why)
        self.daemon.is_ending = True
        self.is_sampling = False
        self.daemon.signal(signal.SIGTERM)
        try:
            code = self.daemon.process.wait(15)
        except subprocess.TimeoutExpired:
            code = None
        # What was acknowledged is with the broker, which needs a moment to hand it on.
        time.sleep(3)
        self.log.say("end", code=code)

    def close(self):
        self.daemon.is_ending = True
        for process in (self.daemon.process, self.subscriber.process, self.broker.process):
            if process.poll() is None:
                process.kill()
                process.wait()
        for camera in self.cameras:
            camera.end()
        self.disk.end()


def commit():
    found = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"], capture_output=True,
                           text=True, check=False)
    return found.stdout.strip()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--photos", default="")
    args.add_argument("--minutes", type=float, default=20)
    installed, built = pathlib.Path("/usr/bin/captiond"), ROOT / "target/release/captiond"
    args.add_argument("--captiond", default=str(installed if installed.exists() else built))
    args.add_argument("--bundle", default="", help="another bundle than the one that captiond finds")
    args.add_argument("--commit", default=commit(), help="what captiond was built of, for the report")
    args.add_argument("--shim", default=str(ROOT / "target/release/deps/libv4l2_shim.so"),
                      help="the emulator of a USB camera, which building the tests builds")
    args.add_argument("--every", type=float, default=120, help="seconds from one fault to the next")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--out", default="", help="the folder of the log, and of all that the run needs")
    args.add_argument("--report", action="store_true", help="judge what is in FOLDER, and run nothing")
    args.add_argument("--note", default="", help="a sentence for the report that the log cannot know: how captiond was built")
    args.add_argument("--write-docs", action="store_true", help="write the report into docs/soak.md and docs/plots")
    args = args.parse_args()
    # The log resumes from where it is; what was mounted and started does not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = pathlib.Path(args.out or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not args.report:
            soak = Soak(args, folder)
            try:
                soak.drive()
                soak.end()
            finally:
                soak.close()
        sys.exit(0 if report(folder, ROOT / "docs" if args.write_docs else None, args.note) else 1)


if __name__ == "__main__":
    main()
