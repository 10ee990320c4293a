#!/usr/bin/env bash
# Installs the Debian package in a minimal Debian that is booted for it, and lets it live a whole life there: installed,
# enabled, started, a caption at a broker, upgraded while the broker is away, removed, purged.
#
#     scripts/package_test.sh [PACKAGE]
#
# Without a package it builds one (scripts/package.sh). Wants root, debootstrap and systemd-container; the network for the
# first run alone, which keeps its Debian beneath target/package-test. $CAPTIOND_SUITE names another suite than bookworm,
# $CAPTIOND_MIRROR another mirror.
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
for tool in debootstrap systemd-nspawn nsenter dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt install debootstrap systemd-container util-linux"
done

# The machine: its first process, or nothing.
leader=""
nspawn=""
inside() { nsenter --target "$leader" --all env -i -C / PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }

# Until the command holds, for a minute at most.
wait_for() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            inside journalctl --no-pager --unit captiond --lines 30 >&2 || true
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
    child=$(cat "/proc/$nspawn/task/$nspawn/children")
    child=${child%% *}
    [ -n "$child" ] && [ "$(cat "/proc/$child/comm")" = systemd ] && leader=$child
}

end() {
    if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
        # What systemd-nspawn passes on as a request to power off.
        kill -TERM "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    rm -rf "$root" "$work/next"
}
trap end EXIT

step "the package"
package=${1:-}
if [ -z "$package" ]; then
    scripts/package.sh amd64 "$work/packages"
    package=$(ls -t "$work"/packages/captiond_*_amd64.deb | head -n 1)
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
systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$root" --boot >"$work/console.log" 2>&1 &
nspawn=$!
wait_for "the first process" first_process
wait_for "the broker" inside systemctl is-active mosquitto
echo "way: booted by systemd-nspawn, $(inside systemctl --version | head -n 1)"
paths >"$work/before"

step "install"
inside apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 /root/packages/captiond.deb
[ "$(inside systemctl is-enabled captiond)" = enabled ] || fail "the service is not enabled"
[ "$(inside systemctl is-active captiond)" = active ] || fail "the service does not run with the configuration of the package"
inside captiond --version
inside captiond check
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
inside systemctl reload captiond || {
    inside journalctl --no-pager --unit captiond --lines 20 >&2
    fail "the service does not reload"
}
inside mosquitto_sub -t captiond/photos/caption -C 1 -W 120 || fail "no caption arrived"

step "upgrade while the broker is away"
# A session that the broker keeps over its restart, so that nothing that arrives meanwhile is missed.
inside mosquitto_sub -i package-test -c -q 1 -t captiond/photos/caption -E
inside systemctl stop mosquitto
waiting() { [ -n "$(find "$root/var/lib/private/captiond/queue" -type f -size +0 2>/dev/null)" ]; }
wait_for "a caption in the queue on disk" waiting
inside apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold /root/packages/next.deb
[ "$(inside dpkg-query --show --showformat '${Version}' captiond)" = "$version+next" ] || fail "not upgraded"
cmp "$root/etc/captiond/captiond.toml" "$work/edited" || fail "the upgrade lost the edited configuration"
[ "$(inside systemctl is-enabled captiond)" = enabled ] || fail "the upgrade disabled the service"
wait_for "the service after the upgrade" inside systemctl is-active captiond
waiting || fail "the upgrade lost what waited"
inside systemctl start mosquitto
late() { inside mosquitto_sub -i package-test -c -q 1 -t captiond/photos/caption -C 1 -W 30 | grep '"late":true'; }
wait_for "a caption that waited" late
echo "what waited on disk arrived after the upgrade, marked late"

step "remove"
inside apt-get remove -qq -o Dpkg::Use-Pty=0 captiond
[ ! -e "$root/usr/bin/captiond" ] || fail "the executable is left"
inside systemctl is-active captiond && fail "the service still runs"
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
