#!/usr/bin/env bash
# Installs the Debian package in a minimal Debian that is booted for it, and lets it live a whole life there: installed,
# enabled, started, a caption at a broker, upgraded while the broker is away, removed, purged.
#
#     scripts/package_test.sh [PACKAGE]
#
# Without a package it builds one (scripts/package.sh). Wants root, debootstrap and systemd-container; the network for the
# first run alone, which keeps its Debian beneath target/package-test. $CAPTIOND_SUITE names another suite than bookworm,
# $CAPTIOND_MIRROR another mirror. Where nothing can be booted, or with $CAPTIOND_BOOT=no, the unit is enabled in the Debian and
# run by scripts/unit_by_hand.py; the line `way:` says which it was.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${CAPTIOND_SUITE:-bookworm}
mirror=${CAPTIOND_MIRROR:-http://deb.debian.org/debian}
work=$PWD/target/package-test
base=$work/$suite
root=$work/root

step() { printf '\n== %s (%d s)\n' "$*" $SECONDS; }
fail() {
    printf 'package_test: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "only root can make and boot a Debian"
for tool in debootstrap nsenter unshare dpkg-deb python3; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt install debootstrap util-linux python3"
done

# The machine: its first process, or nothing.
leader=""
keeper=""
way=""
hand=""
inside() {
    local into=(--all)
    [ "$way" = booted ] || into=(--mount --net --pid --root)
    nsenter --target "$leader" "${into[@]}" env -i -C / PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
        DEBIAN_FRONTEND=noninteractive "$@"
}

# Until the command holds, for a minute at most.
wait_for() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            journal >&2
            fail "not within a minute: $what"
        fi
        sleep 0.2
    done
}

# Every path but those that a running Debian writes by itself.
paths() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp -o -path ./var/tmp \
        -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./var/lib/mosquitto \
        -o -path ./var/lib/systemd -o -path ./root \) -prune -o -print | LC_ALL=C sort)
}

first_process() {
    local child
    child=$(cat "/proc/$keeper/task/$keeper/children")
    child=${child%% *}
    [ -n "$child" ] && [ "$(cat "/proc/$child/comm")" = "$1" ] && leader=$child
}

journal() {
    if [ "$way" = booted ]; then
        inside journalctl --no-pager --unit captiond --lines 30 || true
    else
        tail -n 30 "$work/notified" "$work/daemon.log" || true
    fi
}

# True when the machine runs with its broker.
boot() {
    [ "${CAPTIOND_BOOT:-}" != no ] && command -v systemd-nspawn >/dev/null || return 1
    systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$root" --boot >"$work/console.log" 2>&1 &
    keeper=$!
    way=booted
    # Where it is not allowed, it ends at once.
    local deadline=$((SECONDS + 120))
    until first_process systemd 2>/dev/null && inside systemctl is-active mosquitto >/dev/null 2>&1; do
        kill -0 "$keeper" 2>/dev/null && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.2
    done
}

# Namespaces of its own without a boot.
enter() {
    way="by hand"
    unshare --mount --net --pid --fork sh -c '
        ip link set lo up && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
            exec chroot "$1" sleep infinity' sh "$root" 2>"$work/console.log" &
    keeper=$!
    wait_for "the namespaces" first_process sleep
    broker start
}

broker() {
    if [ "$way" = booted ]; then
        inside systemctl "$1" mosquitto
    elif [ "$1" = start ]; then
        inside install -d -o mosquitto /run/mosquitto
        inside mosquitto -d -c /etc/mosquitto/mosquitto.conf
    else
        inside sh -c 'kill "$(cat /run/mosquitto/mosquitto.pid)"'
        gone() { ! inside mosquitto_pub -t package-test -n; }
        wait_for "the end of the broker" gone
    fi
}

is_ready() { grep -q READY=1 "$work/notified"; }
service() {
    case "$way $1" in
    "booted is-active") inside systemctl is-active captiond ;;
    "booted reload") inside systemctl reload captiond ;;
    # The package has started it.
    booted*) ;;
    *is-active) [ -n "$hand" ] && kill -0 "$hand" 2>/dev/null && is_ready ;;
    *start)
        : >"$work/notified"
        # Nothing between, so that signals reach it.
        nsenter --target "$leader" --net python3 scripts/unit_by_hand.py "$root" >"$work/notified" 2>"$work/daemon.log" &
        hand=$!
        wait_for "READY=1" is_ready
        ;;
    *reload)
        : >"$work/notified"
        kill -HUP "$hand"
        wait_for "READY=1 after the reload" is_ready
        ;;
    *stop)
        kill -TERM "$hand"
        wait "$hand" || fail "the daemon did not end well"
        hand=""
        ;;
    esac
}

end() {
    [ -z "$hand" ] || kill -KILL "$hand" 2>/dev/null || true
    if [ -n "$keeper" ] && kill -0 "$keeper" 2>/dev/null; then
        # What systemd-nspawn passes on as a request to power off; the namespaces end with their first process.
        if [ "$way" = booted ]; then kill -TERM "$keeper"; else kill -KILL "$leader"; fi 2>/dev/null || true
        wait "$keeper" 2>/dev/null || true
    fi
    rm -rf "$root" "$work/next"
}
trap end EXIT

step "the package"
package=${1:-}
if [ -z "$package" ]; then
    rm -rf "$work/packages"
    scripts/package.sh amd64 "$work/packages"
    package=$(find "$work/packages" -name "captiond_*_amd64.deb" | head -n 1)
fi
ls -l "$package"
[ "$(dpkg-deb --field "$package" Package)" = captiond ] || fail "$package is no package of captiond"

# The same with a later version and another file of configuration, which the upgrade must not put in the place of an edited one.
version=$(dpkg-deb --field "$package" Version)
rm -rf "$work/next"
mkdir -p "$work"
dpkg-deb --raw-extract "$package" "$work/next"
sed -i "s/^Version: .*/Version: $version+next/" "$work/next/DEBIAN/control"
echo "# of the next version" >>"$work/next/etc/captiond/captiond.toml"
sed -i '/etc\/captiond/d' "$work/next/DEBIAN/md5sums" 2>/dev/null || true

step "a minimal Debian ($suite)"
if [ ! -e "$base.done" ]; then
    rm -rf "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,mosquitto,mosquitto-clients \
        "$suite" "$base" "$mirror" >"$work/debootstrap.log" || fail "debootstrap: see $work/debootstrap.log"
    touch "$base.done"
fi
rm -rf "$root"
cp -a "$base" "$root"
echo "127.0.0.1 localhost" >"$root/etc/hosts"
mkdir "$root/srv/photos" "$root/root/packages"
cp assets/demo/*.jpg "$root/srv/photos/"
cp "$package" "$root/root/packages/captiond.deb"
dpkg-deb --build -Znone --root-owner-group "$work/next" "$root/root/packages/next.deb" >/dev/null

step "boot"
if boot; then
    echo "way: booted by systemd-nspawn, $(inside systemctl --version | head -n 1)"
else
    [ -z "$keeper" ] || ! kill -TERM "$keeper" 2>/dev/null || wait "$keeper" || true
    enter
    echo "way: not booted; the unit is run by scripts/unit_by_hand.py, without its limits"
fi
paths >"$work/before"

step "install"
inside apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 /root/packages/captiond.deb
[ "$(inside systemctl is-enabled captiond)" = enabled ] || fail "the service is not enabled"
service start
service is-active || fail "the service does not run with the configuration of the package"
inside captiond --version
inside captiond check
# A feature that is left out of a build is missed at no other place here.
inside sh -c 'cat >/tmp/cameras.toml' <<'TOML'
[[camera]]
name = "gate"
source = { type = "rtsp", url = "rtsp://127.0.0.1/stream" }
TOML
inside captiond check --config /tmp/cameras.toml || fail "the package reads no RTSP cameras"
size=$(inside dpkg-query --show --showformat '${Installed-Size}' captiond)
echo "installed: $size KiB"

step "a caption"
inside sh -c 'cat >/etc/captiond/captiond.toml' <<'TOML'
[mqtt]
host = "localhost"

[[camera]]
name = "photos"
source = { type = "replay", path = "/srv/photos", interval = "500ms" }
TOML
cp "$root/etc/captiond/captiond.toml" "$work/edited"
service reload || {
    journal >&2
    fail "the service does not reload"
}
inside mosquitto_sub -t captiond/photos/caption -C 1 -W 120 || fail "no caption arrived"

step "upgrade while the broker is away"
# A session that the broker keeps over its restart, so that nothing that arrives meanwhile is missed.
inside mosquitto_sub -i package-test -c -q 1 -t captiond/photos/caption -E
broker stop
waiting() { [ -n "$(find "$root/var/lib/private/captiond/queue" -type f -size +0 2>/dev/null)" ]; }
wait_for "a caption in the queue on disk" waiting
service stop
inside apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold /root/packages/next.deb
[ "$(inside dpkg-query --show --showformat '${Version}' captiond)" = "$version+next" ] || fail "not upgraded"
cmp "$root/etc/captiond/captiond.toml" "$work/edited" || fail "the upgrade lost the edited configuration"
[ "$(inside systemctl is-enabled captiond)" = enabled ] || fail "the upgrade disabled the service"
service start
wait_for "the service after the upgrade" service is-active
waiting || fail "the upgrade lost what waited"
broker start
late() { inside mosquitto_sub -i package-test -c -q 1 -t captiond/photos/caption -C 1 -W 30 | grep '"late":true'; }
wait_for "a caption that waited" late
echo "what waited on disk arrived after the upgrade, marked late"

step "remove"
service stop
inside apt-get remove -qq -o Dpkg::Use-Pty=0 captiond
[ ! -e "$root/usr/bin/captiond" ] || fail "the executable is left"
service is-active && fail "the service still runs"
cmp "$root/etc/captiond/captiond.toml" "$work/edited" || fail "removing lost the configuration"
[ -d "$root/var/lib/private/captiond" ] || fail "removing lost the state"

step "purge"
echo secret >"$root/etc/captiond/mqtt-password"
inside apt-get purge -qq -o Dpkg::Use-Pty=0 captiond
paths >"$work/after"
diff "$work/before" "$work/after" || fail "the purge left or took something"
left=$(grep -rl captiond "$root/etc" "$root/var/lib/systemd" "$root/var/lib/dpkg/info" 2>/dev/null || true)
[ -z "$left" ] || fail "the purge left: $left"
echo "nothing is left"

step "done: installed, enabled, captioned, upgraded, removed and purged"
