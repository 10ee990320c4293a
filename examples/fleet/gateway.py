#!/usr/bin/env python3
"""Publishes frames as jobs for captiond's workers and prints what comes back, one JSON line an answer.

    gateway.py --camera porch photos/                        # a folder, in the order of names
    gateway.py --camera porch --command 'fswebcam -q -' --interval 5
    gateway.py --camera porch --question 'Is there a person?' --choices yes,no photos/

Needs paho-mqtt 2 and a broker that speaks MQTT 5. The contract is docs/mqtt.md, "Jobs".

A job is at the broker until it is answered, but not every broker keeps the jobs of a worker that never comes back. So a
job without an answer is sent again, with the same correlation data; an answer that comes twice is dropped.
"""

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def now() -> str:
    """RFC 3339 in UTC with milliseconds."""
    time_utc = datetime.datetime.now(datetime.timezone.utc)
    return time_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Gateway:
    """Keeps at most `in_flight` jobs at the broker; the frames of a camera wait for their turn here."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        # The correlation data must differ from those of a former run: its answers may still be under way.
        self.run = uuid.uuid4().hex[:12]
        self.answers = f"{arguments.base}/gateway/{self.run}/answers"
        self.pending: dict[bytes, dict] = {}
        self.changed = threading.Condition()
        self.repeats = self.resent = self.answered = self.given_up = 0
        self.ready = threading.Event()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"gateway-{self.run}", protocol=mqtt.MQTTv5
        )
        if arguments.username:
            self.client.username_pw_set(arguments.username, arguments.password_file.read_text().strip())
        if arguments.tls:
            self.client.tls_set(ca_certs=arguments.ca_file)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self.on_message

    def on_connect(self, client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            print(f"broker refuses: {reason}", file=sys.stderr)
            return
        client.subscribe(self.answers, qos=1)

    def on_message(self, _client, _userdata, message):
        correlation = getattr(message.properties, "CorrelationData", None)
        try:
            answer = json.loads(message.payload)
        except ValueError:
            return print(f"no JSON on {message.topic}", file=sys.stderr)
        with self.changed:
            job = self.pending.get(correlation)
            # Answered already, or of nobody here: the correlation data and `seq` both have to fit.
            if job is None or answer.get("seq") not in (job["seq"], None):
                self.repeats += 1
                return
            del self.pending[correlation]
            self.answered += 1
            self.changed.notify_all()
        print(json.dumps(answer, ensure_ascii=False), flush=True)

    def submit(self, seq: int, picture: bytes):
        """Publishes a frame; waits while too many are unanswered."""
        correlation = f"{self.run}/{seq}".encode()
        job = {"seq": seq, "frame_ts": now(), "picture": picture, "sent": 0.0, "tries": 0}
        with self.changed:
            while len(self.pending) >= self.arguments.in_flight:
                self.changed.wait(timeout=0.2)
                self.resend()
            self.pending[correlation] = job
            self.send(correlation, job)

    def send(self, correlation: bytes, job: dict):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = self.answers
        properties.CorrelationData = correlation
        properties.ContentType = "image/png" if job["picture"].startswith(b"\x89PNG") else "image/jpeg"
        # The broker forgets a job when it is sent again, so that the two are not both answered.
        properties.MessageExpiryInterval = max(1, round(self.arguments.timeout))
        user = [
            ("camera", self.arguments.camera),
            ("seq", str(job["seq"])),
            ("frame_ts", job["frame_ts"]),
        ]
        if self.arguments.question:
            user.append(("question", self.arguments.question))
            if self.arguments.choices:
                user.append(("choices", json.dumps(self.arguments.choices.split(","))))
        properties.UserProperty = user
        job["sent"], job["tries"] = time.monotonic(), job["tries"] + 1
        topic = f"{self.arguments.base}/work/{self.arguments.site}"
        self.client.publish(topic, job["picture"], qos=1, properties=properties)

    def resend(self):
        """Sends every job again that had no answer in time, and gives up on one after its last try."""
        overdue = time.monotonic() - self.arguments.timeout
        for correlation, job in list(self.pending.items()):
            if job["sent"] > overdue:
                continue
            if job["tries"] >= self.arguments.tries:
                del self.pending[correlation]
                self.given_up += 1
                print(f"no answer to frame {job['seq']}", file=sys.stderr)
            else:
                self.resent += 1
                self.send(correlation, job)

    def finish(self):
        """Waits until every job is answered or given up."""
        with self.changed:
            while self.pending:
                self.changed.wait(timeout=0.2)
                self.resend()

    def frames(self):
        """The pictures, as they come."""
        if self.arguments.command:
            while True:
                taken = subprocess.run(shlex.split(self.arguments.command), capture_output=True, timeout=60)
                if taken.returncode == 0 and taken.stdout:
                    yield taken.stdout
                else:
                    print(f"no picture: {taken.stderr.decode(errors='replace').strip()}", file=sys.stderr)
        folder = Path(self.arguments.folder)
        kinds = {".jpg", ".jpeg", ".png"}
        photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds)
        for _ in range(self.arguments.rounds):
            yield from (photo.read_bytes() for photo in photos)

    def work(self) -> int:
        self.client.connect(self.arguments.host, self.arguments.port, clean_start=True)
        self.client.loop_start()
        if not self.ready.wait(timeout=30):
            print("no broker", file=sys.stderr)
            return 1
        started = time.monotonic()
        try:
            for seq, picture in enumerate(self.frames(), start=1):
                self.submit(seq, picture)
                time.sleep(self.arguments.interval)
            self.finish()
        except KeyboardInterrupt:
            pass
        took_s = time.monotonic() - started
        self.client.disconnect()
        self.client.loop_stop()
        print(
            f"{self.answered} answers in {took_s:.2f} s, {self.answered / took_s:.2f} a second; "
            f"{self.resent} sent again, {self.repeats} repeats dropped, {self.given_up} without an answer",
            file=sys.stderr,
        )
        return 0 if self.given_up == 0 else 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", help="photos to publish")
    parser.add_argument("--command", help="writes one JPEG or PNG to its standard output; run once a frame")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--site", default="gateway", help="last level of the jobs' topic")
    parser.add_argument("--base", default="captiond", help="the workers' base topic")
    parser.add_argument("--question", help="without one, captions are asked for")
    parser.add_argument("--choices", help="answers to choose from, with commas between them")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds from a frame to the next")
    parser.add_argument("--rounds", type=int, default=1, help="how often the folder is gone through")
    parser.add_argument("--in-flight", type=int, default=8, help="jobs without an answer at a time")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds until a job is sent again")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca-file", help="certificates that are trusted instead of the system's")
    parsed = parser.parse_args(arguments)
    if bool(parsed.folder) == bool(parsed.command):
        parser.error("either a folder or --command")
    if parsed.username and not parsed.password_file:
        parser.error("--username needs --password-file")
    return parsed


if __name__ == "__main__":
    sys.exit(Gateway(parse()).work())
