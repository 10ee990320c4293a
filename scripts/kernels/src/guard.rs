//! What a kernel reads ends where no memory is: a load beyond it ends the process, also one by assembly.

use std::ffi::{c_int, c_void};

use crate::kernels::Isa;
use crate::kernels::product::{BLOCK, Packed, Rows, Sink, multiply};
use crate::kernels::tests::Numbers;

/// As large as that of any Linux.
const PAGE: usize = 1 << 16;

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        n: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, n: usize, protection: c_int) -> c_int;
}

/// A copy of `bytes` with a page behind it that nobody may read. It is never freed.
fn guarded(bytes: &[u8]) -> &'static [u8] {
    let n = bytes.len().next_multiple_of(PAGE);
    // SAFETY: anonymous private memory for reading and writing, of which the last page is taken away; the copy lies right
    // before that.
    unsafe {
        let start = mmap(std::ptr::null_mut(), n + PAGE, 1 | 2, 2 | 0x20, -1, 0);
        assert_ne!(start.addr(), usize::MAX, "mmap");
        let end = start.cast::<u8>().add(n);
        assert_eq!(mprotect(end.cast(), PAGE, 0), 0, "mprotect");
        let copy = end.sub(bytes.len());
        copy.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        std::slice::from_raw_parts(copy, bytes.len())
    }
}

struct Sums {
    sums: Vec<i32>,
    n_columns: usize,
}

impl Sink for Sums {
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let n = (self.n_columns - column).min(BLOCK);
        self.sums[row * self.n_columns + column..][..n].copy_from_slice(&sums[..n]);
    }
}

#[test]
fn nothing_is_read_beyond_the_rows() {
    let mut numbers = Numbers(11);
    for _ in 0..200 {
        let (n_rows, n_columns, depth) =
            (numbers.between(1, 20), numbers.between(1, 50), 4 * numbers.between(1, 20));
        let (rows, weights) = (numbers.bytes(n_rows * depth), numbers.weights(n_columns * depth));
        let rows = guarded(&rows);
        let packed = Packed::new(n_columns, depth, |column, k| weights[column * depth + k]);
        let initial = vec![0; packed.all().n_blocks() * BLOCK];
        let mut before: Option<Vec<i32>> = None;
        for isa in Isa::available() {
            let mut found = Sums { sums: vec![0; n_rows * n_columns], n_columns };
            multiply(isa, &Rows::dense(rows, n_rows, depth), packed.all(), &initial, &mut found);
            if let Some(before) = before.replace(found.sums.clone()) {
                assert_eq!(found.sums, before, "{isa:?} {n_rows}x{depth}x{n_columns}");
            }
        }
    }
    println!("read with {:?}", Isa::available());
}

/// For the script: it must fail, or a sanitizer that sees nothing would pass for kernels that do nothing wrong.
#[test]
#[ignore = "reads beyond its memory"]
fn a_byte_beyond_the_end_is_read() {
    let bytes = std::hint::black_box(vec![7u8; 24]);
    // SAFETY: there is none.
    let beyond = unsafe { bytes.as_ptr().add(24).read_volatile() };
    println!("{beyond}");
}

/// For the script, as above.
#[test]
#[ignore = "reads beyond its memory"]
fn a_byte_of_the_page_behind_is_read() {
    let bytes = guarded(&[7; 24]);
    // SAFETY: there is none.
    let beyond = unsafe { bytes.as_ptr().add(24).read_volatile() };
    println!("{beyond}");
}
