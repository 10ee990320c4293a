"""Runs what ExecStart= of the installed unit says in a Debian that is not booted, with what systemd would give it: a socket for
its notifications, the credentials, and the state directory.

    unit_by_hand.py ROOT

Prints each notification as a line and ends as the daemon does; SIGTERM and SIGHUP are passed on to it. Of the unit's limits
nothing is in force.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys

root = sys.argv[1]
unit = {}
with open(f"{root}/usr/lib/systemd/system/captiond.service") as lines:
    for line in lines:
        key, separator, value = line.strip().partition("=")
        if separator:
            unit.setdefault(key, []).append(value)

state = unit["StateDirectory"][0]
# As with DynamicUser=, beneath private/.
os.makedirs(f"{root}/var/lib/private/{state}", mode=0o700, exist_ok=True)
if not os.path.lexists(f"{root}/var/lib/{state}"):
    os.symlink(f"private/{state}", f"{root}/var/lib/{state}")
credentials = "/run/credentials/captiond.service"
os.makedirs(root + credentials, mode=0o700, exist_ok=True)
for line in unit["LoadCredential"]:
    name, path = line.split(":", 1)
    with open(f"{root}{credentials}/{name}", "wb") as file:
        # SetCredential= of the unit stands in for a file that is not there.
        file.write(open(root + path, "rb").read() if os.path.exists(root + path) else b"\n")

notify = "/run/captiond-notify"
if os.path.lexists(root + notify):
    os.unlink(root + notify)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
# The path may be longer than an address of a socket can be.
os.chdir(root)
sock.bind(notify.lstrip("/"))
sock.settimeout(1)

environment = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "NOTIFY_SOCKET": notify,
    "CREDENTIALS_DIRECTORY": credentials,
    "STATE_DIRECTORY": f"/var/lib/{state}",
}
daemon = subprocess.Popen(
    shlex.split(unit["ExecStart"][0]), env=environment, preexec_fn=lambda: (os.chroot("."), os.chdir("/"))
)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: daemon.send_signal(number))
while daemon.poll() is None:
    try:
        print(sock.recv(4096).decode().replace("\n", " "), flush=True)
    except TimeoutError:
        pass
sys.exit(daemon.returncode)
