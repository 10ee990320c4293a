//! How a layer's output is shared out among threads.

use std::cell::Cell;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::kernels::columns::Columns;

/// For each thread, so that one that wakes late leaves some of its own to others.
const PARTS: usize = 4;
/// What is over sooner is over before it is handed over, in nanoseconds. Tests share what is small, too.
const LEAST_NS: f32 = if cfg!(test) { 0.0 } else { 20_000.0 };

thread_local! {
    /// Whether something was shared, or would have been with more threads.
    static IS_WIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has come by something that is worth it to share since this was last asked.
pub(crate) fn was_wide() -> bool {
    IS_WIDE.take()
}

/// The pool, if it has several threads and the work is worth it to share: so many elements that take so long each.
fn worth_it(pool: Option<&ThreadPool>, n_elements: usize, element_ns: f32) -> Option<&ThreadPool> {
    if n_elements as f32 * element_ns < LEAST_NS {
        return None;
    }
    IS_WIDE.set(true);
    pool.filter(|pool| pool.current_num_threads() > 1)
}

/// Calls `work` with parts of `out` that begin at a multiple of `unit_len`, and the number of the unit that each begins
/// with: one part for each thread of `pool`, or all of it at once. An element takes about `element_ns`.
pub(crate) fn share<T: Send>(
    pool: Option<&ThreadPool>,
    out: &mut [T],
    unit_len: usize,
    element_ns: f32,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    // Of nothing, which takes no memory, as much as one pleases.
    let mut nothing = vec![(); out.len() / unit_len.max(1)];
    share_rows(pool, out, &mut nothing, element_ns, |first, out, _| work(first, out));
}

/// Calls `work` with columns of a product's `out`, `[rows, n_columns]`, and the number of the first, a multiple of `unit`:
/// some parts for each thread of `pool`, so that each reads its share of the weights, or all at once.
/// A sum takes about `element_ns`.
pub(crate) fn share_columns(
    pool: Option<&ThreadPool>,
    out: &mut [f32],
    n_columns: usize,
    unit: usize,
    element_ns: f32,
    work: impl Fn(usize, Columns<'_>) + Sync,
) {
    let pool = worth_it(pool, out.len(), element_ns);
    let out = Columns::all(out, n_columns);
    match pool {
        Some(pool) => {
            let n_part = n_columns.div_ceil(PARTS * pool.current_num_threads()).next_multiple_of(unit);
            let parts: Vec<Columns<'_>> = out.split(n_part).collect();
            pool.install(|| {
                parts.into_par_iter().enumerate().for_each(|(part, out)| work(part * n_part, out));
            });
        }
        None => work(0, out),
    }
}

/// Calls `work` with rows of `out`, one entry of `of_rows` for each, and the number of the first row.
pub(crate) fn share_rows<T: Send, U: Send>(
    pool: Option<&ThreadPool>,
    out: &mut [T],
    of_rows: &mut [U],
    element_ns: f32,
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let n_rows = of_rows.len();
    match worth_it(pool, out.len(), element_ns) {
        Some(pool) if n_rows > 1 => {
            let (n_part, row_len) = (n_rows.div_ceil(pool.current_num_threads()), out.len() / n_rows);
            let parts = out.par_chunks_mut(n_part * row_len).zip(of_rows.par_chunks_mut(n_part));
            pool.install(|| {
                parts.enumerate().for_each(|(part, (out, of_rows))| work(part * n_part, out, of_rows));
            });
        }
        _ => work(0, out, of_rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_worked_on_once_whoever_does_it() {
        for n_threads in 1..5 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            for n_units in 0..12 {
                let mut out = vec![0; 3 * n_units];
                share(Some(&pool), &mut out, 3, LEAST_NS, |first, out| {
                    for (idx, value) in out.iter_mut().enumerate() {
                        *value += 1 + 3 * first + idx;
                    }
                });
                assert_eq!(
                    out,
                    (1..=3 * n_units).collect::<Vec<_>>(),
                    "{n_units} units, {n_threads} threads"
                );
            }
        }
    }
}
