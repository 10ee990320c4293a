//! Raw bindings of `linux/videodev2.h`, generated beforehand: see README.md beside Cargo.toml.
#![allow(clippy::all)]
#![allow(non_camel_case_types)]
#![allow(non_snake_case)]
#![allow(non_upper_case_globals)]

// The layout of `v4l2_buffer` follows the width of a pointer and of `time_t`.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "v4l2-sys-mit is vendored with bindings for 64-bit Linux alone: see vendor/v4l2-sys-mit/README.md"
);

include!("bindings.rs");
