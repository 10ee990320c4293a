//! Two things at a time, such as loading a graph beside the others.

/// What both return, the first on a thread of its own meanwhile. Blocks until both have; a panic of either goes on here.
pub fn beside<A: Send, B>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn neither_waits_for_the_other_to_end() {
        let ((to_second, from_first), (to_first, from_second)) = (mpsc::channel(), mpsc::channel());
        let first = move || {
            to_second.send(1).unwrap();
            from_second.recv().unwrap()
        };
        let second = || {
            to_first.send(2).unwrap();
            from_first.recv().unwrap()
        };
        assert_eq!(beside(first, second), (2, 1));
    }
}
