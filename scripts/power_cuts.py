#!/usr/bin/env python3
"""Cuts the power of a daemon at random moments, and looks at what is left.

    scripts/power_cuts.py [--cuts 100] [--captiond /usr/bin/captiond] [--seed 1] [--log FILE] [--write-docs]

The queue lies on ext4 on a disk in memory whose write cache a cut empties at random (scripts/volatile_disk.py): of what
was written since the file system's last barrier some is there, some is not, some in part and nothing in order. Captions
queue while the broker is away, or drain while it is there; then the power goes, the daemon gets SIGKILL, the file system
is mounted anew, and the daemon starts again on what is left. Every cut goes on with what the one before left.

After each cut the daemon has to start, what it then sends has to be readable and in order for each camera, and no
caption may be missing that was in the queue when the daemon synced it. When captions were made, the broker was missed and
the queue was synced is known from the debug log. Exit code 1 when one of these fails. Needs root, loop devices, e2fsprogs, mosquitto with its
clients, and mfusepy (PyPI).
"""
import argparse
import ctypes
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from soak_cameras import ROOT, free_port
from soak_parts import Broker, die_with_me, metrics
from soak_report import quantile, seconds

DISK_MB = 32
# From the line that the broker is away until what was on its way to it is in the queue.
PUT_AWAY_S = 0.5
BEGIN, END = "<!-- power cuts: written by scripts/power_cuts.py --write-docs -->", "<!-- end of power cuts -->"


def leave_alone():
    """A name space of our own for mounts: another one that is made meanwhile would hold copies of them."""
    clone_newns = 0x00020000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newns):
        sys.exit(f"no name space for mounts: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class Power:
    """The disk, mounted or cut."""

    def __init__(self, folder):
        self.raw, self.mounted, self.loop = folder / "raw", folder / "queue", None
        self.raw.mkdir()
        self.mounted.mkdir()
        self.process = subprocess.Popen([sys.executable, ROOT / "scripts/volatile_disk.py", self.raw, str(DISK_MB)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_me)
        while not (self.raw / "disk").exists():
            if self.process.poll() is not None:
                sys.exit("the disk in memory did not start: are mfusepy, libfuse 3 and /dev/fuse there?")
            time.sleep(0.05)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.raw / "disk"], check=True)

    def on(self):
        self.tell("on")
        made = subprocess.run(["losetup", "--direct-io=on", "-f", "--show", self.raw / "disk"], capture_output=True, text=True,
                              check=True)
        self.loop = made.stdout.strip()
        subprocess.run(["mount", self.loop, self.mounted], check=True)

    def off(self):
        subprocess.run(["umount", self.mounted], check=True)
        subprocess.run(["losetup", "-d", self.loop], check=True)
        self.loop = None
        left = subprocess.run(["losetup", "-j", self.raw / "disk"], capture_output=True, text=True, check=True).stdout
        if left:
            # What still has it mounted would write to it beside the next mount.
            sys.exit(f"somebody else holds the disk, which makes the cuts worthless: {left.strip()}")

    def tell(self, word):
        fd = os.open(self.raw / "control", os.O_WRONLY)
        os.write(fd, word.encode())
        os.close(fd)

    def is_sound(self):
        """What e2fsck says of the disk after its journal was played back and it was unmounted."""
        return subprocess.run(["e2fsck", "-fn", self.raw / "disk"], capture_output=True, check=False).returncode == 0

    def close(self):
        if self.loop:
            subprocess.run(["umount", "-l", self.mounted], check=False)
            subprocess.run(["losetup", "-d", self.loop], check=False)
        subprocess.run(["umount", "-l", self.raw], check=False)
        self.process.wait()


class Received:
    """What a subscriber with a session got, by the file that it writes."""

    def __init__(self, folder, port):
        self.path = folder / "received.jsonl"
        command = ["mosquitto_sub", "-V", "mqttv5", "-c", "-x", "86400", "-i", "cuts-subscriber", "-q", "1", "-p", str(port),
                   "-t", "captiond/+/caption", "-F", '{"retained":%r,"payload":%p}']
        self.process = subprocess.Popen(command, stdout=self.path.open("wb"), stderr=subprocess.DEVNULL,
                                        preexec_fn=die_with_me)
        self.n_lines = 0

    def news(self):
        """The captions of new scenes since the last call, and what could not be read."""
        lines = self.path.read_bytes().split(b"\n")[:-1]
        fresh, self.n_lines = lines[self.n_lines:], len(lines)
        captions, broken = [], []
        for line in fresh:
            try:
                payload = json.loads(line)["payload"]
            except ValueError:
                broken.append(line[:200])
                continue
            if payload["changed"]:
                captions.append(payload)
        return captions, broken


class Cuts:
    """The daemon on that disk, and what became of its captions."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rng = args, folder, random.Random(args.seed)
        self.power = Power(folder)
        self.broker = Broker(folder, free_port())
        self.http_port = free_port()
        self.broker.start()
        self.received = Received(folder, self.broker.port)
        self.process, self.n_runs, self.starts = None, 0, []
        # Those that were made and have not arrived, by the run of the daemon, camera and number, with their time.
        self.open, self.settled, self.n_late = {}, set(), 0
        self.config = folder / "captiond.toml"
        bundle = f'bundle = "{args.bundle}"\n' if args.bundle else ""
        self.config.write_text(
            f'{bundle}[mqtt]\nhost = "127.0.0.1"\nport = {self.broker.port}\nclient_id = "cuts"\nkeep_alive = "5s"\n'
            f'discovery = false\nqueue_dir = "{self.power.mounted}/queue"\n[http]\nlisten = "127.0.0.1:{self.http_port}"\n'
            + "".join(f'[[camera]]\nname = "{name}"\nheartbeat = "1day"\n[camera.gate]\nrefresh = "1day"\ndeviations = 0\n'
                      f'similarity = 1.0\n[camera.source]\ntype = "replay"\npath = "{ROOT}/assets/demo"\ninterval = "400ms"\n'
                      for name in ("porch", "yard")))

    def start(self):
        self.n_runs += 1
        log = (self.folder / f"daemon-{self.n_runs:03}.log").open("w")
        command = [self.args.captiond, "--log", "warn,captiond=info,captiond::mqtt=debug", "--log-format", "json",
                   "run", "--config", str(self.config)]
        self.starts.append(time.time())
        self.process = subprocess.Popen(command, stderr=log, preexec_fn=die_with_me)

    def is_up(self, patience=60):
        until = time.time() + patience
        while time.time() < until and self.process.poll() is None:
            if metrics(self.http_port) is not None:
                return True
            time.sleep(0.1)
        return False

    def log_of_run(self):
        return [json.loads(line) for line in (self.folder / f"daemon-{self.n_runs:03}.log").read_text().splitlines()
                if line.startswith("{") and line.endswith("}")]

    def note(self, cut_at):
        """What the run that has ended made before the cut. Since when it missed the broker, and when it last synced its
        queue; 0 for never."""
        missed, synced = 0.0, 0.0
        for said in self.log_of_run():
            at = seconds(said["ts"])
            if at > cut_at:
                break
            if said["message"] == "caption":
                key = (self.n_runs, ("porch", "yard")[int(said["camera"])], int(said["seq"]))
                if key not in self.settled:
                    self.open[key] = at
            elif said["message"] == "queue synced":
                synced = at
            elif said["message"] == "no broker, retrying" and not missed:
                missed = at
            elif said["message"] == "broker up":
                missed = 0.0
        return missed, synced

    def settle(self):
        """Takes what has arrived from what is open. What was wrong with it."""
        captions, wrong = self.received.news()
        wrong = [f"not readable: {line!r}" for line in wrong]
        last = {}
        for payload in captions:
            made_at = seconds(payload["ts"])
            run = sum(start <= made_at for start in self.starts)
            key = (run, payload["camera"], payload["seq"])
            if key in last.get(payload["camera"], ()):
                continue
            # At least once: what comes again is as it was; what comes for the first time is in order.
            if key not in self.settled:
                newest = max((k for k in last.get(payload["camera"], ())), default=(0,))
                if key < newest:
                    wrong.append(f"out of order: {key} after {newest}")
                last.setdefault(payload["camera"], []).append(key)
            self.settled.add(key)
            self.open.pop(key, None)
            self.n_late += bool(payload.get("late"))
        return wrong

    def drain(self, wrong, safe, patience=60):
        """Waits until what was safe has arrived, and nothing more comes of the queue. Whether it did in time."""
        until, quiet_since, n_late = time.time() + patience, time.time(), self.n_late
        while time.time() < until:
            wrong += self.settle()
            if self.n_late != n_late:
                quiet_since, n_late = time.time(), self.n_late
            is_out = (metrics(self.http_port) or {}).get("captiond_broker_up") == 1
            if is_out and not safe & self.open.keys() and time.time() - quiet_since > 2:
                return True
            time.sleep(0.3)
        return False

    def cut(self, n):
        """One cut. What it found, as an entry of the log."""
        found = []
        is_draining = n % 3 == 2
        self.broker.kill()
        time.sleep(self.rng.uniform(3, 9))
        if is_draining:
            # The power goes while the queue is on its way out, or a moment later.
            self.broker.start()
            time.sleep(self.rng.uniform(0, 3))
        cut_at = time.time()
        self.power.tell(f"cut {self.rng.randrange(1 << 30)}")
        self.process.kill()
        self.process.wait()
        self.power.off()
        missed, synced = self.note(cut_at)
        if not is_draining:
            self.broker.start()
        # What the broker had acknowledged is with the subscriber soon.
        time.sleep(1)
        found += self.settle()
        self.power.on()
        begun = time.time()
        self.start()
        if not self.is_up():
            found.append(f"the daemon did not start: {(self.folder / f'daemon-{self.n_runs:03}.log').read_text()[-500:]}")
            return self.entry(n, is_draining, cut_at, found, [])
        took = time.time() - begun
        # What waited when the queue was synced. While the broker is there, the youngest may be on their way past the queue.
        margin = PUT_AWAY_S if missed else 2 * PUT_AWAY_S
        safe = {key for key, at in self.open.items()
                if at + (0 if missed else margin) < synced and missed + margin < synced}
        if not self.drain(found, safe):
            found.append("the queue did not drain")
        found += [f"{said['level']}: {said['message']}" for said in self.log_of_run() if said["level"] == "error"]
        gone = sorted(cut_at - at for at in self.open.values())
        found += [f"lost although synced, made {cut_at - self.open[key]:.1f} s before the cut" for key in safe & self.open.keys()]
        self.open.clear()
        return self.entry(n, is_draining, cut_at, found, gone, took=round(took, 2), n_synced=len(safe))

    def entry(self, n, is_draining, cut_at, found, gone, **more):
        torn = sum("torn" in said["message"] for said in self.log_of_run())
        return {"cut": n, "draining": is_draining, "at": round(cut_at, 2), "found": found, "torn": torn,
                "lost_age_s": [round(age, 2) for age in gone], **more}

    def close(self):
        for process in (self.process, self.received.process, self.broker.process):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        self.power.close()


def summary(entries, is_sound, args):
    ages = [age for entry in entries for age in entry["lost_age_s"]]
    starts = [entry["took"] for entry in entries if "took" in entry]
    bad = [entry for entry in entries if entry["found"]]
    oldest = f"the oldest of them {max(ages):.1f} s before the cut" if ages else "none older"
    return "\n".join([
        f"{len(entries)} cuts, seed {args.seed}, {sum(e['draining'] for e in entries)} of them while the queue was on its way "
        f"out: the daemon started {len(starts)} times (answering after {quantile(starts, 0.5):.1f} s, {max(starts):.1f} s at "
        f"most), found a torn end and cut it off {sum(e['torn'] for e in entries)} times.",
        f"Captions that waited, synced, when the power went: {sum(e.get('n_synced', 0) for e in entries)}, all but those of the "
        f"list below arrived. Captions that were made before a cut and never arrived: {len(ages)}, {oldest}. The file system was {'sound' if is_sound else '**not** sound'} at the end (`e2fsck -fn`).",
        f"Cuts after which something was not as it has to be: {len(bad)}.",
        *(f"- cut {entry['cut']}: {'; '.join(sorted(set(entry['found'])))[:300]}" for entry in bad),
    ])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--cuts", type=int, default=100)
    installed, built = pathlib.Path("/usr/bin/captiond"), ROOT / "target/release/captiond"
    args.add_argument("--captiond", default=str(installed if installed.exists() else built))
    args.add_argument("--bundle", default="", help="another bundle than the one that captiond finds")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--log", default="", help="write what each cut found here, one JSON object a line")
    args.add_argument("--keep", action="store_true", help="keep the logs of the daemon when something was wrong")
    args.add_argument("--write-docs", action="store_true", help="write the result into docs/faults.md")
    args = args.parse_args()
    if os.geteuid() != 0:
        sys.exit("only root can mount a disk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    leave_alone()
    folder = pathlib.Path(tempfile.mkdtemp())
    cuts, entries = Cuts(args, folder), []
    is_sound = False
    try:
        cuts.power.on()
        cuts.start()
        if not cuts.is_up():
            sys.exit("the daemon did not start at all")
        for n in range(args.cuts):
            entries.append(cuts.cut(n))
            print(json.dumps(entries[-1]), flush=True)
            if args.log:
                with open(args.log, "a") as log:
                    log.write(json.dumps(entries[-1]) + "\n")
        cuts.process.kill()
        cuts.process.wait()
        cuts.power.off()
        is_sound = cuts.power.is_sound()
    finally:
        cuts.close()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = summary(entries, is_sound, args)
    print(text)
    if args.write_docs:
        path = ROOT / "docs/faults.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2])
    sys.exit(0 if is_sound and not any(entry["found"] for entry in entries) else 1)


if __name__ == "__main__":
    main()
