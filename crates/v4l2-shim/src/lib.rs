//! Emulates V4L2 capture devices for tests. Preloaded (`LD_PRELOAD`) into a process, it takes the place
//! of `open`, `close`, `ioctl`, `mmap` and `poll` for files `video0`, `video1`, ... in the folder
//! `$V4L2_SHIM_ROOT`; everything else goes to the kernel.
//!
//! Such a file holds the scenario, see `scenario`, and is read anew at each call: whoever writes it, by
//! renaming another file over it, changes the camera while it runs. Deleting it unplugs the camera. What
//! the process does to the cameras is appended to the file `log` of the folder, one line a deed.
//!
//! The functions that C declares with `...` are defined with the arguments that Linux reads, which is the
//! same to a caller on x86-64 and on 64-bit ARM.

#![expect(unsafe_code, reason = "takes the place of functions of libc")]

mod camera;
mod controls;
mod scenario;

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int, c_ulong, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

thread_local! {
    /// Set while the shim itself reads files: its calls are for the kernel.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Does the shim's own work; none where this is it already.
fn inside<T>(work: impl FnOnce() -> T) -> Option<T> {
    if INSIDE.replace(true) {
        return None;
    }
    let done = work();
    INSIDE.set(false);
    Some(done)
}

fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| std::fs::canonicalize(std::env::var_os("V4L2_SHIM_ROOT")?).ok()).as_deref()
}

/// The node of a path that leads to an emulated camera, links followed.
fn node(path: &Path) -> Option<PathBuf> {
    let root = root()?;
    let path = std::fs::canonicalize(path).ok()?;
    let number = path.file_name()?.to_str()?.strip_prefix("video")?;
    let is_node = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_node && path.parent() == Some(root)).then_some(path)
}

fn set_errno(code: c_int) -> c_int {
    // SAFETY: the place of this thread's errno.
    unsafe { *libc::__errno_location() = code };
    -1
}

/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, handed on.
    let real = || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int };
    // SAFETY: the caller promises a text of C.
    let text = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    match inside(|| node(text).map(|node| camera::open(&node, real))).flatten() {
        Some(Ok(fd)) => fd,
        Some(Err(code)) => set_errno(code),
        None => real(),
    }
}

/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the same function by its name of old.
    unsafe { open(path, flags, mode) }
}

/// # Safety
/// As `close(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if camera::is_any_open() {
        inside(|| camera::close(fd));
    }
    // SAFETY: the caller's argument, handed on.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// # Safety
/// As `ioctl(2)`; the argument must be what the request needs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    if camera::is_any_open() {
        // SAFETY: the caller promises that the argument is what the request needs.
        let answer = inside(|| camera::with(fd, |camera| unsafe { camera.ioctl(request, argument) }));
        match answer.flatten() {
            Some(Ok(())) => return 0,
            Some(Err(code)) => return set_errno(code),
            None => {}
        }
    }
    // SAFETY: the caller's arguments, handed on.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int }
}

/// # Safety
/// As `mmap(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    start: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    let real = |flags: c_int, fd: c_int, offset: libc::off_t| {
        // SAFETY: the caller's arguments, or anonymous memory in their place.
        unsafe { libc::syscall(libc::SYS_mmap, start, length, protection, flags, fd, offset) as *mut c_void }
    };
    if fd >= 0 && camera::is_any_open() {
        let mapped = inside(|| {
            camera::with(fd, |camera| {
                let memory = real(libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0);
                camera.mapped(offset, memory);
                memory
            })
        });
        if let Some(memory) = mapped.flatten() {
            return memory;
        }
    }
    real(flags, fd, offset)
}

/// # Safety
/// As `mmap(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    start: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the same function by its name of old.
    unsafe { mmap(start, length, protection, flags, fd, offset) }
}

/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(polled: *mut libc::pollfd, n: libc::nfds_t, timeout_ms: c_int) -> c_int {
    if n == 1 && camera::is_any_open() {
        // SAFETY: the caller promises one structure.
        let polled = unsafe { &mut *polled };
        if let Some(Some(events)) = inside(|| camera::poll(polled.fd, timeout_ms)) {
            polled.revents = events;
            return c_int::from(events != 0);
        }
    }
    let time = libc::timespec {
        tv_sec: libc::time_t::from(timeout_ms.max(0) / 1000),
        tv_nsec: libc::c_long::from(timeout_ms.max(0) % 1000) * 1_000_000,
    };
    let limit = if timeout_ms < 0 { std::ptr::null() } else { &raw const time };
    let no_mask: *const c_void = std::ptr::null();
    // SAFETY: the caller's arguments, and a time that outlives the call.
    unsafe { libc::syscall(libc::SYS_ppoll, polled, n, limit, no_mask, 8_usize) as c_int }
}
