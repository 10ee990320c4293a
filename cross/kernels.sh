#!/usr/bin/env bash
# Tests the kernels of 64-bit Arm alone, in a crate of seconds (scripts/kernels), on the processors that they tell apart, and
# counts the instructions of a product: by qemu where this machine is no Arm.
#
#     cross/kernels.sh
#
# Wants what cross/arm64.sh wants, and for the counts a qemu-aarch64 with plugins ($QEMU) and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/debian.sh
qemu=${QEMU:-qemu-aarch64}

step "tests"
inside cp -r --dereference /src/scripts/kernels /target/
crate=(--manifest-path /target/kernels/Cargo.toml --locked --target "$triple.$glibc")
runner=()
if [ "$(uname -m)" = aarch64 ]; then
    cpus=(native)
else
    runner=(CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64)
fi
for cpu in "${cpus[@]}"; do
    echo "-- $cpu"
    # Without optimization every access of plain Rust is checked as well.
    for profile in dev release; do
        inside env "${runner[@]}" QEMU_CPU="$cpu" cargo-zigbuild test "${crate[@]}" --profile "$profile" --lib -- --nocapture
    done
    # The page behind the rows must be noticed.
    if inside env "${runner[@]}" QEMU_CPU="$cpu" cargo-zigbuild test "${crate[@]}" --release --lib -- \
        --ignored --exact guard::a_byte_of_the_page_behind_is_read >"$work/beyond.log" 2>&1; then
        fail "a byte beyond the end was read"
    fi
    grep -q SIGSEGV "$work/beyond.log" || fail "ended otherwise: see $work/beyond.log"
done

step "instructions"
inside cargo-zigbuild zigbuild "${crate[@]}" --release --bin captiond-kernels
if ! "$qemu" --help 2>/dev/null | grep -q -- -plugin || ! command -v cc >/dev/null; then
    echo "SKIPPED: a C compiler and a qemu with plugins are not there"
    exit
fi
# The first version of the interface of plugins: what each block of instructions adds when it runs.
cc -O1 -shared -fPIC -x c -o "$work/count.so" - <<'PLUGIN'
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);
int qemu_plugin_version = 1;
static uint64_t n;
static void block(uint64_t id, struct qemu_plugin_tb *tb)
{
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &n, qemu_plugin_tb_n_insns(tb));
}
static void end(uint64_t id, void *data) { fprintf(stderr, "instructions %llu\n", (unsigned long long)n); }
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, block);
    qemu_plugin_register_atexit_cb(id, end, NULL);
    return 0;
}
PLUGIN
binary=$work/target/$triple/release/captiond-kernels
count() {
    "$qemu" -L "$root/usr" -cpu max -plugin "$work/count.so" "$binary" "$@" 2>&1 | sed -n 's/^.*instructions //p'
}
# Two runs more than one, so that the start does not count.
each() {
    local what=$1 isa=$2 once thrice
    shift 2
    once=$(count "$what" "$isa" "$@" 1)
    thrice=$(count "$what" "$isa" "$@" 3)
    echo "$(((thrice - once) / 2))"
}
read -ra sets < <("$qemu" -L "$root/usr" -cpu max "$binary")
printf '| rows x depth x columns, products an instruction |'
printf ' %s |' "${sets[@]}"
printf '\n'
while read -r rows depth columns; do
    printf '| %s x %s x %s |' "$rows" "$depth" "$columns"
    for isa in "${sets[@]}"; do
        n=$(each products "$isa" "$rows" "$depth" "$columns")
        printf ' %s |' "$(awk "BEGIN { printf \"%.2f\", $rows * $depth * $columns / $n }")"
    done
    printf '\n'
done <<'SHAPES'
3136 16 96
784 144 32
196 96 576
196 384 96
49 960 160
196 12 32
8 256 1024
3 256 1024
1 256 1024
SHAPES
# Each channel by itself is what the compiler makes of plain Rust everywhere.
while read -r size kernel channels; do
    n=$(each windows "${sets[0]}" "$size" "$kernel" "$channels")
    out=$((size - kernel + 1))
    awk "BEGIN { printf \"windows of %d x %d, %d channels: %.2f products an instruction\n\", $kernel, $kernel, $channels, \
        $out * $out * $kernel * $kernel * $channels / $n }"
done <<'SHAPES'
16 3 96
16 5 96
16 3 72
SHAPES
