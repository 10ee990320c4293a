#!/usr/bin/env python3
"""Runs examples/node-red/flows.json in a real Node-RED, against a real broker and the real daemon, and checks that
every question gets its own answer.

    scripts/node_red.py [--captiond target/release/captiond] [--modules DIR]

Node-RED is installed from the npm registry into a temporary folder, or into --modules, where a later run finds it.
The daemon replays the photos of the demonstration with models/lite. Says `skipped` where npm, Mosquitto or the daemon is
missing.
"""
import argparse
import collections
import contextlib
import json
import operator
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from soak import ROOT, free_port

# The last of the major version that Node.js 18 and 20 can run.
NODE_RED = "node-red@4.1.15"
FLOWS = ROOT / "examples/node-red/flows.json"
# How the flow asks: the inject node, the node that matches, and the topic of its answers.
WAYS = {
    "MQTT 5": ("captiond-ask-5", "captiond-match-5", "node-red/captiond/answers"),
    "MQTT 3.1.1": ("captiond-ask-311", "captiond-match-311", "captiond/porch/answer"),
}
QUESTIONS = ["Is there a person?", "Is there a cat?", "Is it a photo of food?"]
PROBE = "probe"
DEADLINE_S = 120

SETTINGS = """module.exports = {
    flowFile: 'flows.json', uiHost: '127.0.0.1', uiPort: %d, credentialSecret: false,
    telemetry: { enabled: false, updateNotification: false },
    logging: { console: { level: 'info', metrics: false, audit: false } },
};
"""
CAPTIOND = """[mqtt]
host = "127.0.0.1"
port = %d

[[camera]]
name = "porch"
source = { type = "replay", path = "%s", interval = "2s" }
"""


def skip(why):
    print(f"skipped: {why}")
    sys.exit(0)


def wait_until(what, condition):
    """The first true value of `condition`."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"waited too long until {what}")
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def running(command, log):
    """A program until the end of the block."""
    with open(log, "wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def install(folder):
    """Node-RED's main script; installed unless it is there."""
    script = folder / "node_modules/node-red/red.js"
    if not script.exists():
        command = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error", NODE_RED]
        subprocess.run(command, check=True)
    return script


def probed_flow(broker_port):
    """The flow with this broker, and with what it shows published beneath `PROBE`."""
    nodes = json.loads(FLOWS.read_text())
    by_id = {node["id"]: node for node in nodes}
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node |= {"broker": "127.0.0.1", "port": str(broker_port)}
    shown = {way: match for way, (_, match, _) in WAYS.items()} | {"caption": "captiond-captions"}
    for n, (name, source) in enumerate(shown.items()):
        probe = by_id["captiond-out-5"] | {"id": f"probe-{n}", "topic": "", "name": "probe"}
        rename = {"id": f"rename-{n}", "type": "change", "z": probe["z"], "name": "", "wires": [[probe["id"]]]}
        rename["rules"] = [{"t": "set", "p": "topic", "pt": "msg", "to": f"{PROBE}/{name}", "tot": "str"}]
        by_id[source]["wires"][0].append(rename["id"])
        nodes += [probe, rename]
    return nodes


def inject(port, node, question):
    """Presses the button of an inject node, with another payload than the flow's."""
    props = [{"p": "payload", "v": question, "vt": "str"}]
    body = json.dumps({"__user_inject_props__": props}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/inject/{node}", body, headers), timeout=10)


def is_connected(log):
    """Whether Node-RED has deployed the flow and both of its brokers are there: what it sends earlier is lost."""
    text = log.read_text()
    return all(f"[mqtt-broker:{way}] Connected to broker" in text for way in WAYS)


class Ear:
    """Hears what Node-RED publishes beneath `PROBE`, and the answers of the daemon as they are at the broker."""

    def __init__(self, port):
        self.heard = collections.defaultdict(queue.Queue)
        topics = [f"{PROBE}/#"] + [topic for _, _, topic in WAYS.values()]
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-F", "%t\t%p"]
        command += [word for topic in topics for word in ("-t", topic)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            topic, payload = line.rstrip("\n").split("\t", 1)
            self.heard[topic].put(json.loads(payload))

    def next_on(self, topic):
        try:
            return self.heard[topic].get(timeout=DEADLINE_S)
        except queue.Empty:
            sys.exit(f"nothing came on {topic}")


def check(ear, way, red_port, broker_port):
    """Asks every question at once, with a stray answer before them. Each gets the answer that the daemon gave to it."""
    button, _, topic = WAYS[way]
    stray = {"question": "who?", "answer": "stray", "score": 1, "verdict": "answered", "transaction": "stray"}
    command = ["mosquitto_pub", "-V", "5", "-h", "127.0.0.1", "-p", str(broker_port), "-t", topic]
    command += ["-m", json.dumps(stray), "-D", "publish", "correlation-data", "stray"]
    subprocess.run(command, check=True)
    if ear.next_on(topic) != stray:
        sys.exit(f"{way}: the stray answer was not the first")
    for question in QUESTIONS:
        inject(red_port, button, question)
    keys = ("question", "answer", "score", "verdict")
    given = [{key: answer[key] for key in keys} for answer in (ear.next_on(topic) for _ in QUESTIONS)]
    matched = [ear.next_on(f"{PROBE}/{way}") for _ in QUESTIONS]
    for answer in matched:
        print(f"{way}: {answer}")
    by_question = operator.itemgetter("question")
    if sorted(matched, key=by_question) != sorted(given, key=by_question):
        sys.exit(f"{way}: the daemon answered {given}")
    if sorted(map(by_question, matched)) != sorted(QUESTIONS):
        sys.exit(f"{way}: not every question has its answer")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", type=pathlib.Path, default=ROOT / "target/release/captiond")
    parser.add_argument("--modules", type=pathlib.Path, help="a folder for Node-RED that is kept")
    return parser.parse_args()


def main():
    args = arguments()
    for program in ("npm", "node", "mosquitto", "mosquitto_sub", "mosquitto_pub"):
        if not shutil.which(program, path=None) and not shutil.which(program, path="/usr/sbin"):
            skip(f"{program} is not installed")
    if not args.captiond.exists():
        skip(f"{args.captiond} is not built (cargo build --release)")
    with tempfile.TemporaryDirectory() as dir, contextlib.ExitStack() as stack:
        dir = pathlib.Path(dir)
        script = install(args.modules or dir / "modules")
        broker_port, red_port = free_port(), free_port()
        (dir / "mosquitto.conf").write_text(f"listener {broker_port} 127.0.0.1\nallow_anonymous true\n")
        (dir / "captiond.toml").write_text(CAPTIOND % (broker_port, ROOT / "assets/demo"))
        (dir / "settings.js").write_text(SETTINGS % red_port)
        (dir / "flows.json").write_text(json.dumps(probed_flow(broker_port)))
        mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        for name, *command in (
            ("mosquitto", mosquitto, "-c", dir / "mosquitto.conf"),
            ("captiond", args.captiond, "run", "--config", dir / "captiond.toml"),
            ("node-red", "node", script, "--userDir", dir, "--settings", dir / "settings.js"),
        ):
            stack.enter_context(running(command, dir / f"{name}.log"))
        try:
            wait_until("the broker listens", lambda: "running" in (dir / "mosquitto.log").read_text())
            ear = Ear(broker_port)
            stack.callback(ear.child.kill)
            wait_until("Node-RED is connected", lambda: is_connected(dir / "node-red.log"))
            print("caption:", ear.next_on(f"{PROBE}/caption")["caption"])
            for way in WAYS:
                check(ear, way, red_port, broker_port)
        except SystemExit:
            for name in ("captiond", "node-red"):
                print(f"--- {name}\n{(dir / f'{name}.log').read_text()}", file=sys.stderr)
            raise
    print("every question got its own answer")


if __name__ == "__main__":
    main()
