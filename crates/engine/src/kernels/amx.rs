//! AMX: a tile of sixteen rows by sixteen columns takes 64 products of each sum in one instruction.
//!
//! The packed weights are in the order that tiles of weights have (Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 1, chapter 18): sixteen quads of sixteen columns are one tile. Rust has no stable intrinsics for tiles.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::LazyLock;

use super::avx512;
use super::product::{BLOCK, QUAD, Rows, Sink, Weights};

/// Rows of a tile of activations.
const N_ROWS: usize = 16;
/// Bytes of a row of any tile.
const ROW_LEN: usize = 64;
const TILE_LEN: usize = N_ROWS * ROW_LEN;

/// Whether the processor has tiles and the kernel lets this process use them, which has to be asked for once.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: LazyLock<bool> =
        LazyLock::new(|| avx512::is_available() && has_tiles() && are_permitted());
    *AVAILABLE
}

fn has_tiles() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    // Leaf 7 is there wherever AVX-512 is.
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (AMX_TILE | AMX_INT8) == AMX_TILE | AMX_INT8
}

/// Asks Linux for the state of the tiles (`arch_prctl(2)`, `ARCH_REQ_XCOMP_PERM`); threads begun later have it as well.
fn are_permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: usize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XTILE_DATA: usize = 18;
        let mut result: usize = ARCH_PRCTL;
        // SAFETY: the call reads and writes no memory of this process.
        unsafe {
            asm!(
                "syscall",
                inout("rax") result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Whether tiles are worth it: they take sixteen rows of a line and 64 of its bytes whether those are there or not.
fn is_fitting(rows: &Rows<'_>) -> bool {
    4 * rows.n_rows >= N_ROWS && 3 * rows.run_len >= ROW_LEN && rows.n_runs > 0
}

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    if !is_fitting(rows) {
        return avx512::multiply(rows, weights, initial, sink);
    }
    let tiles = Tiles::configure();
    let mut panel = Panel::default();
    let mut sums = [Sums([[0; BLOCK]; N_ROWS]); 4];
    for block in (0..weights.n_blocks()).step_by(2) {
        // An odd last block is taken twice, and put once.
        let blocks = [block, (block + 1).min(weights.n_blocks() - 1)];
        panel.set(rows, weights, blocks);
        let start = blocks.map(|block| &initial[block * BLOCK..][..BLOCK]);
        for (line, groups) in groups(rows) {
            panel.run(&tiles, rows, (line, groups), start, &mut sums);
            for (sums, group) in sums.chunks_exact(2).zip(groups.iter().flatten()) {
                for (sums, block) in sums.iter().zip(block..weights.n_blocks()) {
                    let n = rows.n_rows.min(N_ROWS);
                    put(&sums.0[..n], line * rows.n_rows + group, block * BLOCK, sink);
                }
            }
        }
    }
}

/// The first rows of two groups of sixteen, or of one.
type Groups = [Option<usize>; 2];

/// All rows of all lines. The last of a line are taken together with some that were there before.
fn groups(rows: &Rows<'_>) -> impl Iterator<Item = (usize, Groups)> {
    let n_rows = rows.n_rows;
    let last = n_rows.saturating_sub(N_ROWS);
    let of_line = move |line| {
        (0..n_rows).step_by(2 * N_ROWS).map(move |row| {
            let second = (row + N_ROWS < n_rows).then(|| (row + N_ROWS).min(last));
            (line, [Some(row.min(last)), second])
        })
    };
    (0..rows.n_lines).flat_map(of_line)
}

// A function of its own, so that what a sink does with sums is compiled for 512 bits.
#[inline(always)]
fn put(sums: &[[i32; BLOCK]], row: usize, column: usize, sink: &mut impl Sink) {
    // SAFETY: whoever has tiles has AVX-512.
    unsafe { put_512(sums, row, column, sink) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn put_512(sums: &[[i32; BLOCK]], row: usize, column: usize, sink: &mut impl Sink) {
    for (r, sums) in sums.iter().enumerate() {
        sink.put(row + r, column, sums);
    }
}

/// The sums of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[i32; BLOCK]; N_ROWS]);

/// One step of the innermost loop: 64 bytes of each row at `at` from its start, and the tiles of two blocks' weights.
#[derive(Clone, Copy)]
#[repr(C)]
struct Step {
    at: usize,
    weights: [*const i8; 2],
}

/// Two blocks of weights, as the steps that go through them.
#[derive(Default)]
struct Panel {
    steps: Vec<Step>,
    /// Where the steps find a row's bytes once its runs lie one after the other, each filled up to whole tiles.
    copied: Vec<Step>,
    /// The weights of what is less than a whole tile at the end of a run, zeros behind them, so that the bytes behind a
    /// run count for nothing.
    rest: Vec<i8>,
    /// Rows that had to be copied, and which they are.
    copy: Vec<u8>,
    copy_of: Option<(usize, Groups)>,
}

impl Panel {
    fn set(&mut self, rows: &Rows<'_>, weights: Weights<'_>, blocks: [usize; 2]) {
        let blocks = blocks.map(|block| &weights.blocks(block)[..weights.block_len()]);
        let (n_whole, n_rest) = (rows.run_len / ROW_LEN, rows.run_len % ROW_LEN);
        if n_rest > 0 {
            self.rest.resize(2 * rows.n_runs * TILE_LEN, 0);
            for (i, tile) in self.rest.chunks_exact_mut(TILE_LEN).enumerate() {
                let at = ((i / 2) * rows.run_len + n_whole * ROW_LEN) / QUAD * ROW_LEN;
                let rest = &blocks[i % 2][at..][..n_rest / QUAD * ROW_LEN];
                tile[..rest.len()].copy_from_slice(rest);
            }
        }
        let n_steps = n_whole + usize::from(n_rest > 0);
        self.steps.clear();
        self.copied.clear();
        for run in 0..rows.n_runs {
            for chunk in 0..n_steps {
                let weights = [0, 1].map(|b| {
                    let at = (run * rows.run_len + chunk * ROW_LEN) / QUAD * ROW_LEN;
                    let whole = blocks[b].get(at..).filter(|_| chunk < n_whole);
                    let tile = whole.unwrap_or_else(|| &self.rest[(2 * run + b) * TILE_LEN..]);
                    tile[..TILE_LEN].as_ptr()
                });
                self.steps.push(Step { at: run * rows.run_stride + chunk * ROW_LEN, weights });
                self.copied.push(Step { at: (run * n_steps + chunk) * ROW_LEN, weights });
            }
        }
    }

    /// The sums of one group of rows or of two: those of the first with both blocks, then those of the second.
    fn run(
        &mut self,
        tiles: &Tiles,
        rows: &Rows<'_>,
        (line, groups): (usize, Groups),
        initial: [&[i32]; 2],
        sums: &mut [Sums; 4],
    ) {
        let at = groups.map(|row| Some(line * rows.line_stride + row? * rows.row_stride));
        let last = at.iter().flatten().max().map_or(0, |at| at + (N_ROWS - 1) * rows.row_stride);
        let reach = self.steps.last().map_or(0, |step| step.at + ROW_LEN);
        if rows.n_rows >= N_ROWS && last + reach <= rows.data.len() {
            let groups = at.map(|at| Some(&rows.data[at?..]));
            // SAFETY: sixteen rows from either start, and whole tiles of weights, lie within their slices.
            unsafe { tiles.run(&self.steps, groups, rows.row_stride, initial, sums) };
            return;
        }
        // There are fewer rows than a tile's, or the last rows' last tiles would reach beyond the data.
        let stride = self.copied.len() * ROW_LEN;
        if self.copy_of != Some((line, groups)) {
            self.copy_rows(rows, at, stride);
            self.copy_of = Some((line, groups));
        }
        let groups = [Some(&self.copy[..]), groups[1].map(|_| &self.copy[N_ROWS * stride..])];
        // SAFETY: each row of the copy is as long as all steps.
        unsafe { tiles.run(&self.copied, groups, stride, initial, sums) }
    }

    fn copy_rows(&mut self, rows: &Rows<'_>, at: [Option<usize>; 2], stride: usize) {
        self.copy.resize(2 * N_ROWS * stride, 0);
        let run_len = rows.run_len.next_multiple_of(ROW_LEN);
        for (at, copy) in at.iter().zip(self.copy.chunks_exact_mut(N_ROWS * stride)) {
            let Some(at) = at else { continue };
            for (r, row) in copy.chunks_exact_mut(stride).take(rows.n_rows).enumerate() {
                for (run, to) in row.chunks_exact_mut(run_len).enumerate() {
                    let from = &rows.data[at + r * rows.row_stride + run * rows.run_stride..][..rows.run_len];
                    to[..rows.run_len].copy_from_slice(from);
                }
            }
        }
    }
}

/// Tiles that are configured, for the thread that did it.
struct Tiles(std::marker::PhantomData<*const ()>);

impl Tiles {
    /// Eight tiles of sixteen rows by 64 bytes.
    fn configure() -> Tiles {
        let mut config = [0u8; 64];
        config[0] = 1;
        for tile in 0..8 {
            config[16 + 2 * tile] = ROW_LEN as u8;
            config[48 + tile] = N_ROWS as u8;
        }
        // SAFETY: the processor has tiles, which no compiled code uses; the configuration is palette 1's of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config.as_ptr(), options(nostack, readonly)) };
        Tiles(std::marker::PhantomData)
    }

    /// The sums of `steps` for one group of rows or two with two blocks, each from its block's `initial`.
    ///
    /// # Safety
    /// From the start of each group, sixteen rows `stride` apart have 64 bytes at every step, and the weights of the steps
    /// have sixteen times 64 bytes.
    #[inline]
    unsafe fn run(
        &self,
        steps: &[Step],
        groups: [Option<&[u8]>; 2],
        stride: usize,
        initial: [&[i32]; 2],
        sums: &mut [Sums; 4],
    ) {
        let initial = initial.map(|initial| initial[..BLOCK].as_ptr());
        let groups = groups.map(|group| group.map_or(std::ptr::null(), <[u8]>::as_ptr));
        // SAFETY: what is read lies where the caller promises, `initial` has a row that is read sixteen times (its stride
        // is 0), and what is written are four tiles of `sums`. The tiles are configured, see `configure`.
        unsafe {
            asm!(
                // The tiles of sums: 0 and 1 of the first group, 2 and 3 of the second, if there is one.
                "tileloadd tmm0, [{start0} + {zero} * 1]",
                "tileloadd tmm1, [{start1} + {zero} * 1]",
                "tileloadd tmm2, [{start0} + {zero} * 1]",
                "tileloadd tmm3, [{start1} + {zero} * 1]",
                "test {n}, {n}",
                "jz 4f",
                "2:",
                "mov {at}, [{step}]",
                "mov {p}, [{step} + 8]",
                "tileloadd tmm6, [{p} + {row} * 1]",
                "mov {p}, [{step} + 16]",
                "tileloadd tmm7, [{p} + {row} * 1]",
                "lea {p}, [{group0} + {at}]",
                "tileloadd tmm4, [{p} + {stride} * 1]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "test {group1}, {group1}",
                "jz 3f",
                "lea {p}, [{group1} + {at}]",
                "tileloadd tmm5, [{p} + {stride} * 1]",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "3:",
                "add {step}, 24",
                "dec {n}",
                "jnz 2b",
                "4:",
                "tilestored [{sums} + {row} * 1], tmm0",
                "tilestored [{sums} + {row} * 1 + 1024], tmm1",
                "test {group1}, {group1}",
                "jz 5f",
                "tilestored [{sums} + {row} * 1 + 2048], tmm2",
                "tilestored [{sums} + {row} * 1 + 3072], tmm3",
                "5:",
                start0 = in(reg) initial[0],
                start1 = in(reg) initial[1],
                zero = in(reg) 0usize,
                step = inout(reg) steps.as_ptr() => _,
                n = inout(reg) steps.len() => _,
                at = out(reg) _,
                p = out(reg) _,
                group0 = in(reg) groups[0],
                group1 = in(reg) groups[1],
                stride = in(reg) stride,
                row = in(reg) ROW_LEN,
                sums = in(reg) sums.as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the processor has tiles. Released, they no longer cost a thread's switch its time.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
