#!/usr/bin/env bash
# A minute of a camera in 1080p25, H.264 of at most 4 Mbit/s with a keyframe every two seconds: a still scene with the noise
# of a sensor and something that moves. For the cost of a stream in docs/cameras.md.
# Usage: scripts/clip.sh FILE.mkv
set -euo pipefail
cd "$(dirname "$0")/.."
n=1600
exec gst-launch-1.0 -q -e \
    filesrc location=assets/demo/officer.jpg ! jpegdec ! videoconvert ! videoscale add-borders=false \
    ! video/x-raw,format=I420,width=1920,height=1080,pixel-aspect-ratio=1/1 \
    ! imagefreeze num-buffers=$n ! video/x-raw,framerate=25/1 ! scene.sink_0 \
    videotestsrc num-buffers=$n pattern=snow ! video/x-raw,width=1920,height=1080,framerate=25/1 ! scene.sink_1 \
    videotestsrc num-buffers=$n pattern=smpte75 horizontal-speed=4 \
    ! video/x-raw,width=480,height=270,framerate=25/1 ! scene.sink_2 \
    compositor name=scene sink_1::alpha=0.05 sink_2::xpos=1200 sink_2::ypos=600 \
    ! videoconvert ! video/x-raw,format=I420 \
    ! x264enc bitrate=4000 speed-preset=veryfast key-int-max=50 bframes=0 ! video/x-h264,profile=high ! h264parse \
    ! matroskamux ! filesink location="$1"
