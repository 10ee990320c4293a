#!/usr/bin/env python3
"""Asks a camera before it acts, and acts only on a fresh and sure answer.

    ask_first.py --camera front --question 'Is there a person?' --wanted no -- ./drive_on.sh

Without a command it prints `act`. It ends with 0 when it acted and with 3 when it refused; the reason is on stderr.
Refusing is the rule: whatever is late, old, unsure, an error, about something else, or not understood is no permission.

This is no safety device. A captioner is sometimes sure and wrong; a robot that can hurt somebody needs sensors that
cannot be, and this may only make it stop more often.

Needs paho-mqtt 2 and a broker that speaks MQTT 5. The contract is docs/mqtt.md, "Question" and "Answer".
"""

import argparse
import datetime
import json
import math
import subprocess
import sys
import threading
import time
import uuid

ACTED, REFUSED = 0, 3
# A frame may seem to be of the future by so much: two clocks are never quite in step.
CLOCK_SKEW_S = 0.5


def refusal(answer, question: dict, now: datetime.datetime, limits: argparse.Namespace) -> str | None:
    """Why an answer is no permission to act; None when it is one. Never raises, whatever came in."""
    if not isinstance(answer, dict):
        return "the answer is no JSON object"
    if "error" in answer or "code" in answer:
        return f"error {answer.get('code')}: {answer.get('error')}"
    if answer.get("camera") != limits.camera or answer.get("question") != question["question"]:
        return "the answer is to something else"
    if answer.get("verdict") != "answered":
        return f"the answer is {answer.get('verdict', 'without a verdict')}"
    score = answer.get("score")
    # `True` is an int to Python, and NaN compares with nothing: a score is asked to be within its range.
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        return "the answer has no score"
    if score < limits.score_min:
        return f"the score {score} is below {limits.score_min}"
    try:
        taken = datetime.datetime.fromisoformat(answer["frame_ts"].replace("Z", "+00:00"))
        age_s = (now - taken).total_seconds()
    except (KeyError, AttributeError, TypeError, ValueError):
        return "the answer does not say when its frame was taken"
    if age_s > limits.age_max_s:
        return f"the frame is {age_s:.1f} s old, more than {limits.age_max_s} s"
    if age_s < -CLOCK_SKEW_S:
        return f"the frame is of {-age_s:.1f} s from now: the clocks are not in step"
    if answer.get("answer") != limits.wanted:
        return f"the answer is {answer.get('answer')!r}, not {limits.wanted!r}"
    return None


class Asker:
    """One question, one answer."""

    def __init__(self, limits: argparse.Namespace):
        import paho.mqtt.client as mqtt

        self.limits = limits
        self.correlation = uuid.uuid4().bytes
        self.response_topic = f"{limits.base}/robot/{self.correlation.hex()}/answer"
        self.subscribed, self.came = threading.Event(), threading.Event()
        self.payload = b""
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(self.response_topic, qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_message

    def on_message(self, _client, _userdata, message):
        if getattr(message.properties, "CorrelationData", None) != self.correlation or self.came.is_set():
            return
        self.payload = message.payload
        self.came.set()

    def ask(self, question: dict) -> bytes | None:
        """The first answer within the time limit, if there is any; the time to connect counts."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        deadline = time.monotonic() + self.limits.limit_s

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = self.response_topic, self.correlation
        # A question that waits for longer is of no use; it must not be answered from a queue later.
        properties.MessageExpiryInterval = max(1, math.ceil(self.limits.limit_s))
        self.client.connect_timeout = max(0.1, left())
        try:
            self.client.connect(self.limits.host, self.limits.port)
        except OSError as e:
            print(f"no broker: {e}", file=sys.stderr)
            return None
        self.client.loop_start()
        try:
            if not self.subscribed.wait(timeout=left()):
                return None
            topic = f"{self.limits.base}/{self.limits.camera}/ask"
            self.client.publish(topic, json.dumps(question), qos=1, properties=properties)
            return self.payload if self.came.wait(timeout=left()) else None
        finally:
            self.client.disconnect()
            self.client.loop_stop()


def main(arguments: list[str] | None = None) -> int:
    limits = parse(arguments)
    question = {"question": limits.question, "choices": limits.choices.split(",")}
    payload = Asker(limits).ask(question)
    if payload is None:
        why = f"no answer within {limits.limit_s} s"
    else:
        try:
            answer = json.loads(payload)
        except (ValueError, RecursionError):
            answer = None
        why = refusal(answer, question, datetime.datetime.now(datetime.timezone.utc), limits)
    if why is not None:
        print(f"refused: {why}", file=sys.stderr)
        return REFUSED
    if limits.command:
        subprocess.run(limits.command, check=True)
    else:
        print("act", flush=True)
    return ACTED


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--camera", required=True)
    parser.add_argument("--question", required=True)
    parser.add_argument("--choices", default="yes,no")
    parser.add_argument("--wanted", default="yes", help="the only answer that is acted on")
    parser.add_argument("--score-min", type=float, default=0.8, help="0 to 1")
    parser.add_argument("--age-max-s", type=float, default=2.0, help="of the frame, when the answer comes")
    parser.add_argument("--limit-s", type=float, default=3.0, help="from the start to the answer")
    parser.add_argument("--base", default="captiond")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("command", nargs="*", help="after --: what is run when the answer permits it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
