//! The commented reference configuration.
//!
//! The values are the defaults of the code. Keys whose default is "none" stand behind a `#` without
//! a space; a test reads the whole file with and without them.

use humantime::format_duration;

use super::camera::{CORNERS_MAX, MASKS_MAX};
use super::standing::{LABEL_DEVIATIONS, LABEL_HOLD, LABEL_THRESHOLD, RELEASE_SHARE};
use super::*;
use crate::job::JOBS_MAX;
use crate::photo::IMAGE_SIDE_MAX;
use crate::source::pixels::PixelFormat;
use crate::standing::STANDING_MAX;

/// The reference file: it is a valid configuration as it stands, on every machine.
pub fn text() -> String {
    [inference::reference(), mqtt(), http(), cameras()].concat()
}

/// The reference with every kind of source and the worker, which stand behind a `#` where this build has them not or
/// few want them.
pub fn everything() -> String {
    let built = |is_built: bool, text: String| if is_built { text } else { commented(&text) };
    let intro = "\n# A kind of source for network cameras, and one for any pipeline of GStreamer.\n";
    [
        text(),
        intro.to_owned(),
        built(cfg!(feature = "rtsp"), rtsp()),
        "\n".to_owned(),
        built(cfg!(feature = "gstreamer"), gstreamer()),
        "\n# Pictures that others publish as jobs are looked at, beside the cameras or instead of them.\n"
            .to_owned(),
        commented(&worker()),
    ]
    .concat()
}

/// The text with its keys and tables behind a `#`.
fn commented(text: &str) -> String {
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line if line.starts_with('#') => format!("{line}\n"),
        line => format!("#{line}\n"),
    };
    text.lines().map(line).collect()
}

fn mqtt() -> String {
    let mqtt = MqttConfig::default();
    format!(
        r#"[mqtt]
host = "{host}"
port = {port}
# The version of MQTT: "5" or "3.1.1".
protocol = "{protocol}"
#username = "captiond"
# A file that holds the password alone; `LoadCredential=` of systemd puts it here.
#password_file = "/run/credentials/captiond.service/mqtt-password"
# Default: derived from the machine id and the base topic. Two daemons must not share one.
#client_id = "captiond-porch"
# Whether the connection is encrypted; the port is {MQTT_TLS_PORT} then, unless another is given.
tls = false
# Certificates that are trusted instead of those of the system, our certificate with its key, all PEM; and the
# protocols that are offered, which brokers behind port 443 need.
#ca_file = "/etc/captiond/ca.pem"
#cert_file = "/etc/captiond/client.pem"
#key_file = "/run/credentials/captiond.service/mqtt-key"
#alpn = ["mqtt"]
# The first levels of every topic.
base_topic = "{base_topic}"
# 0 (at most once) or 1 (at least once).
qos = {qos}
# Whether the broker keeps captions, pictures, labels and answers to standing questions for those who come later.
retain = {retain}
keep_alive = "{keep_alive}"
# For how long the broker keeps our session while the daemon is away; "0s" for not at all. MQTT 3.1.1 knows no time:
# there a session is kept when this is given, and for ever.
session_expiry = "{session_expiry}"
# Where captions wait while the broker is away, how much, how long. Default: `queue` in systemd's state directory, if any.
#queue_dir = "/var/lib/captiond/queue"
queue_bytes_max = {queue_bytes_max}
queue_age_max = "{queue_age_max}"
# Whether Home Assistant is told of the cameras (MQTT discovery), and under which prefix.
discovery = true
discovery_prefix = "{DISCOVERY_PREFIX}"
# Whether the cameras are devices of the Homie convention as well (openHAB finds those), and its first topic level.
homie = false
homie_domain = "{HOMIE_DOMAIN}"
# Publishes every new caption as an ONVIF event too, under these first levels.
#onvif_prefix = "MyDev"

"#,
        host = mqtt.host,
        port = mqtt.port,
        protocol = mqtt.protocol.as_str(),
        base_topic = mqtt.base_topic,
        qos = mqtt.qos as u8,
        retain = mqtt.retain,
        keep_alive = format_duration(mqtt.keep_alive),
        session_expiry = format_duration(SESSION_EXPIRY),
        queue_bytes_max = QUEUE.bytes_max,
        queue_age_max = format_duration(QUEUE.age_max),
    )
}

fn http() -> String {
    format!(
        r#"# Metrics for Prometheus (/metrics) and health (/healthz, /readyz) over HTTP. Off without this table: daemons on one
# machine would want the same port.
#[http]
# An address and a port.
#listen = "{HTTP_LISTEN}"
# Whether others than this machine may ask: nothing is encrypted, and nobody has to say who they are.
#remote = false

"#
    )
}

fn cameras() -> String {
    [camera(), v4l2(), standing(), other_kinds()].concat()
}

/// What every camera has, but its source.
fn camera() -> String {
    format!(
        r#"# One table per camera, at least one where there is no [worker].
[[camera]]
# A level of the camera's topics: 1 to {NAME_MAX} of a-z, 0-9, _ and -.
name = "porch"
# Mean time between two captions at least, and how many may follow each other faster after a quiet time.
min_interval = "{min_interval}"
burst = {burst}
# The caption is confirmed after this time without another; it expires after three times that.
heartbeat = "{heartbeat}"
# Another bundle than the daemon's.
#bundle = "/usr/share/captiond/models/lite"
# The words that every caption begins with, at most {PROMPT_CHARS_MAX} characters.
prompt = ""
# Whether the picture of a caption is published, at most {IMAGE_SIDE_MAX} pixels a side. Else no picture leaves the daemon.
image = false
# Turned clockwise: 0, 90, 180 or 270 degrees; then mirrored.
rotate = 0
mirror = false
# Private areas, blacked out before anything sees the picture: at most {MASKS_MAX} polygons of at most {CORNERS_MAX}
# corners [x, y], each 0 to 1 from the left and from the top of the turned picture.
#masks = [[[0.0, 0.0], [0.3, 0.0], [0.3, 0.5], [0.0, 0.5]]]
# What is kept of it: left, top, width, height, each 0 to 1.
#crop = [0.0, 0.25, 1.0, 0.75]
# The camera is opened anew after so long without a picture, or with the same picture bit for bit, or "off".
silence = "10s"
frozen = "{frozen}"

"#,
        min_interval = format_duration(GATE.min_interval),
        burst = GATE.burst,
        heartbeat = format_duration(GATE.heartbeat),
        frozen = format_duration(FROZEN),
    )
}

/// The source of that camera, and its gate.
fn v4l2() -> String {
    format!(
        r#"[camera.source]
# A USB camera or another V4L2 device; `captiond cameras` lists those that are there.
type = "v4l2"
# Best a link of /dev/v4l/by-id: /dev/videoN changes when a camera is plugged in again.
device = "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0"
# The camera's least size that holds this one is taken, or else its greatest.
width = {V4L2_WIDTH}
height = {V4L2_HEIGHT}
# From one frame that is looked at to the next; the camera runs at its slowest rate that serves this.
interval = "{v4l2_interval}"
# A pixel format that the camera must use: {formats}.
# Default: the one that suits size and rate best.
#format = "YUYV"
# Settings of the camera, by the names of `captiond cameras` and `v4l2-ctl --list-ctrls`: integers,
# true or false, and entries of menus by their number or text. Default: as the camera is.
#controls = {{ auto_exposure = "Manual Mode", exposure_time_absolute = 150, power_line_frequency = "50 Hz" }}

# Which frames are worth a caption.
[camera.gate]
# Without the gate every frame is captioned.
enabled = {enabled}
# A frame is looked at when the brightness of this share of a {grid} grid changed, 0 to 1.
pixel_change = {pixel_change:?}
# It is captioned when its embedding has a lower cosine than this with the last changed scene.
similarity = {similarity:?}
# And when that is further from it than this camera's embeddings usually move, by so many standard deviations.
deviations = {deviations:?}
# The scene is captioned anew after this time even where nothing changed.
refresh = "{refresh}"

"#,
        deviations = GATE.deviations,
        v4l2_interval = format_duration(V4L2_INTERVAL),
        formats = PixelFormat::ALL.map(PixelFormat::name).join(", "),
        enabled = GATE.enabled,
        grid = "32x32",
        pixel_change = GATE.pixel_change,
        similarity = GATE.similarity,
        refresh = format_duration(GATE.refresh),
    )
}

/// What is asked of every scene of that camera.
fn standing() -> String {
    format!(
        r#"# What is asked of every scene: at most {STANDING_MAX} questions, labels and rules each. Each has a name of a-z, 0-9,
# _ and -, which is a level of its topic and the key of its entity in Home Assistant.
[[camera.question]]
id = "garage"
question = "Is the garage door open?"
# yes_no, number, color, or one_of the choices; without it the wording decides.
type = "yes_no"
#choices = ["open", "closed"]
# Again and again, changed or not; without it whenever the scene has changed.
#every = "5m"

[[camera.label]]
id = "dog"
text = "a dog"
# What else may be there, which it is measured against; without it the usual things.
#against = ["an empty sofa", "a cushion", "a person"]
# The probability from which on it is on, and down to which it stays on (default: {RELEASE_SHARE} of the threshold).
threshold = {LABEL_THRESHOLD:?}
#release = 0.14
# It must also be so many standard deviations above what this camera's pictures usually score; 0 leaves that out.
deviations = {LABEL_DEVIATIONS:?}
# For so long it has to be seen, or not seen, before it turns.
for = "{hold}"

[[camera.rule]]
id = "dog_alone"
# All of these have to hold: one of the words in the caption, all of the labels, none of those, and the answers.
#caption = ["dog", "puppy"]
label = ["dog"]
#no_label = ["person"]
answer = ["garage=no"]
# For so long, before it begins; after its end it does not begin again for the cooldown; at these hours alone.
for = "30s"
cooldown = "5m"
#hours = "22:00-06:00"

"#,
        hold = format_duration(LABEL_HOLD),
    )
}

/// A camera of every other kind.
fn other_kinds() -> String {
    format!(
        r#"[[camera]]
name = "gate"

[camera.source]
# A camera on the network: an address that gives motion JPEG, or one picture a request.
type = "http"
url = "http://192.168.1.20/snapshot.jpg"
#username = "viewer"
#password_file = "/run/credentials/captiond.service/gate-password"
# Certificates that are trusted beside those of the system, PEM.
#ca_file = "/etc/captiond/camera-ca.pem"
interval = "{http_interval}"

[[camera]]
name = "drive"

[camera.source]
# A program that writes pictures to its standard output; no shell is between.
type = "pipe"
command = ["ffmpeg", "-loglevel", "error", "-i", "drive.mp4", "-f", "mjpeg", "-"]
# "mjpeg", or "rgb24" with the width and height that the program writes.
format = "mjpeg"
#width = 640
#height = 480
interval = "{pipe_interval}"

[[camera]]
name = "barn"

[camera.source]
# Pictures (JPEG or PNG) that somebody publishes on a topic; retained ones are passed over.
type = "mqtt"
topic = "barn/picture"
# Larger ones are refused; at most {MQTT_IMAGE_BYTES_LIMIT}.
bytes_max = {MQTT_IMAGE_BYTES_MAX}

[[camera]]
name = "inbox"

[camera.source]
# A folder into which somebody puts photos: its newest, then each one that comes or changes.
type = "folder"
# A path; "." is the folder of this file.
path = "."
interval = "{folder_interval}"

[[camera]]
name = "yard"

[camera.source]
# Photos instead of a camera.
type = "replay"
# A folder (its jpg, jpeg and png files in the order of their names) or one photo; or list `files`.
path = "."
#files = ["photos/a.jpg", "photos/b.jpg"]
# From one photo to the next.
interval = "{replay_interval}"
# From the last photo back to the first; without it the camera goes offline after the last one.
loop = true
"#,
        http_interval = format_duration(HTTP_INTERVAL),
        pipe_interval = format_duration(PIPE_INTERVAL),
        folder_interval = format_duration(FOLDER_INTERVAL),
        replay_interval = format_duration(REPLAY_INTERVAL),
    )
}

/// A camera of the kind `rtsp`, as another table `[[camera]]`; it needs the feature of that name.
pub fn rtsp() -> String {
    format!(
        r#"[[camera]]
name = "street"

[camera.source]
# A network camera: H.264 or Motion JPEG.
type = "rtsp"
url = "rtsp://192.168.1.20:554/stream1"
#username = "viewer"
# A file that holds the password alone. A username and a password inside the url work as well.
#password_file = "/run/credentials/captiond.service/street-password"
# How the video comes: "tcp" or "udp".
transport = "tcp"
# From one frame that is looked at to the next. Where it is no shorter than the distance of the
# camera's keyframes, keyframes alone are decoded.
interval = "{interval}"
"#,
        interval = format_duration(RTSP_INTERVAL),
    )
}

/// A camera of the kind `gstreamer`, as another table `[[camera]]`; it needs the feature of that name.
pub fn gstreamer() -> String {
    format!(
        r#"[[camera]]
name = "board"

[camera.source]
# Any pipeline of GStreamer, as `gst-launch-1.0` takes it.
type = "gstreamer"
# Without a sink at its end: one for frames in RGB is appended.
pipeline = "libcamerasrc ! video/x-raw,width=640,height=480,framerate=30/1"
# From one frame that is looked at to the next.
interval = "{interval}"
"#,
        interval = format_duration(GSTREAMER_INTERVAL),
    )
}

/// The worker, as another table; with it there may be no camera.
pub fn worker() -> String {
    let worker = WorkerConfig::default();
    format!(
        r#"[worker]
# Jobs are taken by the shared subscription $share/<group>/<topic>: the workers of one group share them.
group = "{group}"
# A topic filter. Default: work/+ under the base topic.
#topic = "captiond/work/+"
# For how long the broker keeps the jobs of a worker that is away, before it ends the session.
session_expiry = "{session_expiry}"
# Jobs that the broker hands over before one is answered, 1 to {JOBS_MAX}.
receive_max = {receive_max}
# Larger pictures are refused; at most {JOB_BYTES_LIMIT}.
bytes_max = {bytes_max}
"#,
        group = worker.group,
        session_expiry = format_duration(worker.session_expiry),
        receive_max = worker.receive_max,
        bytes_max = worker.bytes_max,
    )
}
