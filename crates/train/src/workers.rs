//! Work for every thread of the pool, each with something of its own, such as a loaded graph.

use std::sync::Mutex;

use anyhow::{Result, anyhow};
use rayon::prelude::*;

/// One `T` a thread.
pub struct Workers<T>(Vec<Mutex<T>>);

impl<T: Send> Workers<T> {
    /// Calls `make` once a thread.
    pub fn new(make: impl FnMut() -> Result<T>) -> Result<Workers<T>> {
        let all: Result<Vec<T>> =
            std::iter::repeat_with(make).take(rayon::current_num_threads().max(1)).collect();
        Ok(Workers(all?.into_iter().map(Mutex::new).collect()))
    }

    /// What `work` makes of every item, in the order of the items. Blocks.
    ///
    /// # Errors
    /// One that `work` returned, or when it panicked before.
    pub fn map<I: Sync, R: Send>(
        &self,
        items: &[I],
        work: impl Fn(&mut T, &I) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        items
            .par_iter()
            .map(|item| {
                let idx = rayon::current_thread_index().unwrap_or(0) % self.0.len();
                let mut own = self.0[idx].lock().map_err(|_poisoned| anyhow!("another worker panicked"))?;
                work(&mut own, item)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let workers = Workers::new(|| Ok(0usize)).unwrap();
        let items: Vec<usize> = (0..200).collect();
        let doubled = workers.map(&items, |n_seen, item| {
            *n_seen += 1;
            Ok(2 * item)
        });
        assert_eq!(doubled.unwrap(), (0..200).map(|i| 2 * i).collect::<Vec<_>>());
        let n_seen: usize = workers.0.iter().map(|own| *own.lock().unwrap()).sum();
        assert_eq!(n_seen, items.len());
    }

    #[test]
    fn an_error_of_the_work_comes_out() {
        let workers = Workers::new(|| Ok(())).unwrap();
        let result =
            workers.map(&[1, 2, 3], |(), item| if *item == 2 { Err(anyhow!("two")) } else { Ok(()) });
        assert_eq!(result.unwrap_err().to_string(), "two");
    }
}
