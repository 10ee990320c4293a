"""An RTSP server on a free port of the loopback for the tests: it shows a photo in many ways.

Usage: rtsp_server.py PHOTO [PORT [CLIP]]

CLIP is a Matroska file with H.264, or a folder of photos 000.jpg, 001.jpg and so on, of which each is shown for two seconds.

Prints `port N M` once it listens, at M with a password, and `teardown` whenever a client ends its session; ends when its stdin does.
"""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PHOTO, PORT, CLIP = (sys.argv[1:] + ["0", ""][len(sys.argv) - 2 :])[:3]
Gst.init(None)

SIZE = "width=640,height=480,pixel-aspect-ratio=1/1"


def photo(raw):
    """The photo, again and again, as raw video of some kind.

    By way of RGB: videoconvert takes a change of the range alone for none.
    """
    return (
        f"filesrc location={PHOTO} ! jpegdec ! videoconvert ! videoscale add-borders=false "
        f"! video/x-raw,format=RGB,{SIZE} ! videoconvert ! video/x-raw,{raw} "
        "! imagefreeze is-live=true ! video/x-raw,framerate=25/1"
    )


def h264(video, profile, options):
    return (
        f"{video} ! x264enc speed-preset=veryfast bitrate=4000 key-int-max=25 {options} "
        f"! video/x-h264,profile={profile} ! rtph264pay name=pay0 pt=96 config-interval=-1"
    )


BT601 = "format=I420,colorimetry=bt601"
# Bars that move, so that a frame decoded from the wrong ones shows.
BARS = f"videotestsrc is-live=true pattern=smpte75 horizontal-speed=5 ! video/x-raw,{BT601},{SIZE},framerate=25/1"
B_FRAMES = "bframes=2 b-adapt=false"
MOUNTS = {
    "high": h264(photo(BT601), "high", B_FRAMES),
    "main": h264(photo(BT601), "main", B_FRAMES),
    "baseline": h264(photo(BT601), "constrained-baseline", "bframes=0"),
    "bt709": h264(photo("format=I420,colorimetry=bt709"), "high", B_FRAMES),
    "full": h264(photo("format=I420,colorimetry=1:4:0:0"), "high", B_FRAMES),
    "bars": h264(BARS, "high", B_FRAMES),
    "pyramid": h264(BARS, "high", "bframes=4 b-adapt=false b-pyramid=true ref=4"),
    "422": h264(photo("format=Y42B,colorimetry=bt601"), "high-4:2:2", "bframes=0"),
    "10bit": h264(photo("format=I420_10LE,colorimetry=bt601"), "high-10", "bframes=0"),
    "interlaced": h264(f"{BARS},interlace-mode=interleaved,field-order=top-field-first", "high", "interlaced=true"),
    "jpeg": f"{photo('format=I420,colorimetry=1:4:0:0')} ! jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
    "sound": "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8",
}
if Gst.ElementFactory.find("x265enc"):
    MOUNTS["h265"] = f"{photo(BT601)} ! x265enc speed-preset=ultrafast ! rtph265pay name=pay0 pt=96"
if os.path.isdir(CLIP):
    # Slides of many sizes: each is scaled to the one that the stream has.
    slides = (
        f"multifilesrc location={CLIP}/%03d.jpg loop=true caps=image/jpeg,framerate=1/2 ! jpegdec ! videoconvert "
        f"! videoscale ! video/x-raw,{BT601},{SIZE} ! videorate ! video/x-raw,framerate=10/1"
    )
    MOUNTS["slides"] = h264(slides, "high", B_FRAMES)
elif CLIP:
    MOUNTS["clip"] = f"filesrc location={CLIP} ! matroskademux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1"


def say(line):
    print(line, flush=True)


def on_client(_server, client):
    client.connect("teardown-request", lambda *_: say("teardown"))


def serve(port, auth=None):
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.set_auth(auth)
    server.connect("client-connected", on_client)
    for name, line in MOUNTS.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {line} )")
        factory.set_shared(True)
        if auth:
            permissions = GstRtspServer.RTSPPermissions.new()
            for permission in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role("viewer", permission, True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        sys.exit("cannot listen")
    return server


def digest(username, password):
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "viewer")
    auth.add_digest(username, password, token)
    return auth


public = serve(PORT)
secret = serve("0", digest("viewer", "hunter2 & co"))
say(f"port {public.get_bound_port()} {secret.get_bound_port()}")
loop = GLib.MainLoop()
GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP | GLib.IOCondition.IN, lambda *_: loop.quit())
loop.run()
