# shellcheck shell=bash
# Sourced by the scripts beside it, from the root of the tree: makes a Debian that compiles for 64-bit Arm, and runs commands
# in it. `$work` is what its user names.

suite=forky
mirror=${CAPTIOND_MIRROR:-http://deb.debian.org/debian}
work=${CAPTIOND_ARM64:-$PWD/target/arm64}
root=$work/root
triple=aarch64-unknown-linux-gnu
glibc=2.31
# Without dot products of bytes, with them, and with matrix products: what the kernels tell apart.
# shellcheck disable=SC2034
cpus=(cortex-a72 cortex-a76 max)

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
