#!/usr/bin/env bash
# Builds captiond for 64-bit Arm and glibc 2.31, runs the tests of the engine and the captioner there, and captions the
# photos of the demonstration: by qemu where this machine is no Arm.
#
#     cross/arm64.sh [X86_CAPTIOND]
#
# With the executable of this machine, every caption must be the same. No Rust of this machine is used and no rustup: a
# Debian that has a library for Arm beside its compiler is made beneath target/arm64 ($CAPTIOND_ARM64 names another folder;
# 4 GB). Wants root, debootstrap, python3 with pip, and the network for the first run.
#
# $CAPTIOND_ARM64_PROFILE is `dist` unless given; `quick` takes less than half of the time and makes a slower executable.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=forky
mirror=${CAPTIOND_MIRROR:-http://deb.debian.org/debian}
work=${CAPTIOND_ARM64:-$PWD/target/arm64}
root=$work/root
triple=aarch64-unknown-linux-gnu
glibc=2.31
theirs=${1:-}
profile=${CAPTIOND_ARM64_PROFILE:-dist}

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'arm64: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "only root can make a Debian"
for tool in debootstrap unshare python3 objdump; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

# In the Debian, with this tree to read and the folder of what is built; the mounts end with the command.
inside() {
    # shellcheck disable=SC2016
    unshare --mount sh -ec '
        root=$1 tree=$2 target=$3 registry=$4
        shift 4
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind -o ro "$tree" "$root/src"
        mount --bind "$target" "$root/target"
        mount --bind "$registry" "$root/root/.cargo/registry"
        exec chroot "$root" env -i -C /src HOME=/root PATH=/opt/zig/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
            DEBIAN_FRONTEND=noninteractive CARGO_TARGET_DIR=/target "$@"
    ' sh "$root" "$PWD" "$work/target" "${CARGO_HOME:-$HOME/.cargo}/registry" "$@"
}

step "a Debian with Rust for Arm"
mkdir -p "$work/target" "${CARGO_HOME:-$HOME/.cargo}/registry"
if [ ! -e "$work/debian.done" ]; then
    rm -rf "$root"
    # A debootstrap older than the suite has no script for it; every suite's is the same.
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" /usr/share/debootstrap/scripts/sid \
        >"$work/debootstrap.log" || fail "debootstrap: see $work/debootstrap.log"
    mkdir -p "$root/src" "$root/target" "$root/root/.cargo/registry"
    # A mirror may be a snapshot of another day.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90snapshot"
    cp /etc/resolv.conf "$root/etc/"
    inside dpkg --add-architecture arm64
    inside apt-get update -qq
    inside apt-get install -y -qq --no-install-recommends rustc cargo gcc libc6-dev libstd-rust-dev:arm64 qemu-user
    inside apt-get clean
    touch "$work/debian.done"
fi
if [ ! -e "$work/zig.done" ]; then
    rm -rf "$root/opt/zig"
    python3 -m pip install --quiet --target "$root/opt/zig" cargo-zigbuild==0.24.0 ziglang==0.17.1
    ln -s ../ziglang/zig "$root/opt/zig/bin/zig"
    touch "$work/zig.done"
fi
inside rustc --version
inside zig version

step "build"
settings=()
if [ "$profile" = quick ]; then
    # `--config` does not reach the cargo that cargo-zigbuild starts.
    settings=(CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_INCREMENTAL=false)
    profile=release
fi
# The same packages for everything: another selection would compile the dependencies anew.
options=(--locked --profile "$profile" --target "$triple.$glibc" -p captiond -p captiond-engine -p captiond-caption)
inside env "${settings[@]}" cargo zigbuild "${options[@]}" --bin captiond
binary=$work/target/$triple/$profile/captiond
ls -l "$binary"
objdump -T "$binary" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1

step "tests of the engine and the captioner"
[ "$(uname -m)" = aarch64 ] || settings+=(CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64)
inside env "${settings[@]}" cargo-zigbuild test "${options[@]}" --test suite --test bundle --test models --test parity --test preprocess
inside env "${settings[@]}" cargo-zigbuild test "${options[@]}" --lib -- kernels quantized

step "captions"
run=()
[ "$(uname -m)" = aarch64 ] || run=(qemu-aarch64)
inside "${run[@]}" "/target/$triple/$profile/captiond" caption assets/demo --bundle models/lite | tee "$work/arm64.txt"
[ -s "$work/arm64.txt" ] || fail "no caption"
if [ -n "$theirs" ]; then
    "$theirs" caption assets/demo --bundle models/lite >"$work/x86.txt"
    diff "$work/x86.txt" "$work/arm64.txt" || fail "the captions differ from those of $theirs"
    echo "the same as those of $theirs"
fi
