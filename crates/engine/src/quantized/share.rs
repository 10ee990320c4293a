//! How a layer's output is shared out among threads.

use rayon::ThreadPool;
use rayon::prelude::*;

/// Calls `work` with parts of `out` that begin at a multiple of `unit_len`, and the number of the unit that each begins
/// with: one part for each thread of `pool`, or all of it at once.
pub(super) fn share<T: Send>(
    pool: Option<&ThreadPool>,
    out: &mut [T],
    unit_len: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let n_units = out.len() / unit_len.max(1);
    match pool {
        Some(pool) if n_units > 1 && pool.current_num_threads() > 1 => {
            let n_part = n_units.div_ceil(pool.current_num_threads());
            pool.install(|| {
                out.par_chunks_mut(n_part * unit_len)
                    .enumerate()
                    .for_each(|(part, out)| work(part * n_part, out));
            });
        }
        _ => work(0, out),
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
                share(Some(&pool), &mut out, 3, |first, out| {
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
