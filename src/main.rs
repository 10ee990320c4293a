//! The `captiond` executable: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    captiond::allocator::settle();
    captiond::cli::main()
}
