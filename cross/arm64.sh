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

theirs=${1:-}
profile=${CAPTIOND_ARM64_PROFILE:-dist}
. cross/debian.sh

step "build"
settings=()
if [ "$profile" = quick ]; then
    # `--config` does not reach the cargo that cargo-zigbuild starts.
    settings=(CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_INCREMENTAL=false)
    profile=release
fi
# The same packages for everything: another selection would compile the dependencies anew.
options=(--locked --profile "$profile" --target "$triple.$glibc" -p captiond -p captiond-engine -p captiond-caption --features captiond/rtsp)
inside env "${settings[@]}" cargo zigbuild "${options[@]}" --bin captiond
binary=$work/target/$triple/$profile/captiond
ls -l "$binary"
objdump -T "$binary" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1

step "tests of the engine and the captioner"
[ "$(uname -m)" = aarch64 ] || settings+=(CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64)
inside env "${settings[@]}" cargo-zigbuild test "${options[@]}" --test suite --test bundle --test models --test parity --test preprocess
[ "$(uname -m)" = aarch64 ] && cpus=(native)
for cpu in "${cpus[@]}"; do
    echo "-- $cpu"
    inside env "${settings[@]}" QEMU_CPU="$cpu" cargo-zigbuild test "${options[@]}" --lib -- kernels quantized
done

step "captions"
run=()
[ "$(uname -m)" = aarch64 ] || run=(qemu-aarch64)
[ -z "$theirs" ] || "$theirs" caption assets/demo --bundle models/lite >"$work/x86.txt"
for cpu in "${cpus[@]}"; do
    echo "-- $cpu"
    captions=$work/arm64-$cpu.txt
    inside env QEMU_CPU="$cpu" "${run[@]}" "/target/$triple/$profile/captiond" caption assets/demo --bundle models/lite |
        tee "$captions"
    [ -s "$captions" ] || fail "no caption"
    if [ -n "$theirs" ]; then
        diff "$work/x86.txt" "$captions" || fail "the captions of $cpu differ from those of $theirs"
        echo "the same as those of $theirs"
    fi
done
