//! An emulated camera that a process has open.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_ulong, c_void};
use std::io::Write;
use std::mem::size_of;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use v4l2_sys_mit as v4l2;

use crate::scenario::{Code, Scenario};

const BUFFER_BYTES: u32 = 1 << 20;
/// How soon a change of the scenario is seen.
const TICK: Duration = Duration::from_millis(2);

static N_OPEN: AtomicUsize = AtomicUsize::new(0);
static CAMERAS: Mutex<BTreeMap<c_int, Camera>> = Mutex::new(BTreeMap::new());

pub(crate) struct Camera {
    node: PathBuf,
    serial: i64,
    code: Code,
    size: (u32, u32),
    /// Where the process has mapped each buffer.
    buffers: Vec<Memory>,
    queued: VecDeque<u32>,
    is_streaming: bool,
    next_at: Instant,
    sequence: u32,
    /// What controls have been set to.
    pub(crate) values: BTreeMap<u32, i32>,
}

/// The address of a buffer; none before it is mapped.
#[derive(Clone, Copy)]
struct Memory(*mut u8);

// SAFETY: an address alone; it is written to under the lock of `CAMERAS`.
unsafe impl Send for Memory {}

pub(crate) type Answer<T = ()> = Result<T, c_int>;

pub(crate) fn is_any_open() -> bool {
    N_OPEN.load(Ordering::Acquire) > 0
}

/// Opens a node through `real`, which gives a descriptor of the file with the scenario.
pub(crate) fn open(node: &Path, real: impl FnOnce() -> c_int) -> Answer<c_int> {
    let scenario = read(node)?;
    log(node, "open");
    scenario.failure("open")?;
    let fd = real();
    if fd < 0 {
        return Err(libc::EACCES);
    }
    let camera = Camera {
        node: node.to_owned(),
        serial: scenario.serial,
        code: [0; 4],
        size: (0, 0),
        buffers: vec![],
        queued: VecDeque::new(),
        is_streaming: false,
        next_at: Instant::now(),
        sequence: 0,
        values: BTreeMap::new(),
    };
    CAMERAS.lock().unwrap_or_else(PoisonError::into_inner).insert(fd, camera);
    N_OPEN.fetch_add(1, Ordering::Release);
    Ok(fd)
}

pub(crate) fn close(fd: c_int) {
    if let Some(camera) = CAMERAS.lock().unwrap_or_else(PoisonError::into_inner).remove(&fd) {
        N_OPEN.fetch_sub(1, Ordering::Release);
        log(&camera.node, "close");
    }
}

/// Does something with an open camera; none where the descriptor is something else.
pub(crate) fn with<T>(fd: c_int, work: impl FnOnce(&mut Camera) -> T) -> Option<T> {
    CAMERAS.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&fd).map(work)
}

/// Waits for a frame: the events, none of them at the time-out.
pub(crate) fn poll(fd: c_int, timeout_ms: c_int) -> Option<i16> {
    let limit = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    let started = Instant::now();
    let mut has_said = false;
    loop {
        let (scenario, node, is_ready) = with(fd, |camera| {
            let is_ready =
                camera.is_streaming && !camera.queued.is_empty() && Instant::now() >= camera.next_at;
            (camera.scenario(), camera.node.clone(), is_ready)
        })?;
        match scenario {
            Err(_) => return Some(libc::POLLERR | libc::POLLHUP),
            Ok(scenario) if scenario.hangs => {
                if !has_said {
                    log(&node, "hang");
                    has_said = true;
                }
                sleep(TICK);
                continue;
            }
            Ok(scenario) if !scenario.is_silent && is_ready => return Some(libc::POLLIN),
            Ok(_) => {}
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            return Some(0);
        }
        sleep(TICK);
    }
}

fn read(node: &Path) -> Answer<Scenario> {
    // A node that cannot be read is one that was unplugged.
    let text = std::fs::read_to_string(node).ok().ok_or(libc::ENODEV)?;
    Ok(Scenario::parse(&text))
}

fn log(node: &Path, what: &str) {
    let name = node.file_name().unwrap_or_default().to_string_lossy();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(node.with_file_name("log"));
    if let Ok(mut file) = file {
        drop(file.write_all(format!("{name} {what}\n").as_bytes()));
    }
}

const fn number(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | (b'V' as u64) << 8 | number
}

/// Names, numbers and structures of the requests that are emulated; the others are `ENOTTY`.
macro_rules! requests {
    ($self:ident, $request:ident, $argument:ident, $($direction:literal $number:literal $name:ident $kind:ty,)*) => {
        match $request & 0xFFFF_FFFF {
            $(n if n == number($direction, $number, size_of::<$kind>()) => {
                let scenario = $self.scenario()?;
                scenario.failure(stringify!($name))?;
                // SAFETY: the number of the request holds the size of the structure.
                $self.$name(&scenario, unsafe { &mut *$argument.cast::<$kind>() })
            })*
            _ => Err(libc::ENOTTY),
        }
    };
}

#[expect(non_snake_case, reason = "the kernel's names of the requests")]
impl Camera {
    /// # Safety
    /// The argument must be what the request needs.
    pub(crate) unsafe fn ioctl(&mut self, request: c_ulong, argument: *mut c_void) -> Answer {
        requests! { self, request, argument,
            2 0 QUERYCAP v4l2::v4l2_capability,
            3 2 ENUM_FMT v4l2::v4l2_fmtdesc,
            3 5 S_FMT v4l2::v4l2_format,
            3 8 REQBUFS v4l2::v4l2_requestbuffers,
            3 9 QUERYBUF v4l2::v4l2_buffer,
            3 15 QBUF v4l2::v4l2_buffer,
            3 17 DQBUF v4l2::v4l2_buffer,
            1 18 STREAMON c_int,
            1 19 STREAMOFF c_int,
            3 22 S_PARM v4l2::v4l2_streamparm,
            3 28 S_CTRL v4l2::v4l2_control,
            3 36 QUERYCTRL v4l2::v4l2_queryctrl,
            3 37 QUERYMENU v4l2::v4l2_querymenu,
            3 74 ENUM_FRAMESIZES v4l2::v4l2_frmsizeenum,
            3 75 ENUM_FRAMEINTERVALS v4l2::v4l2_frmivalenum,
            3 103 QUERY_EXT_CTRL v4l2::v4l2_query_ext_ctrl,
        }
    }

    /// The scenario as it is now; `ENODEV` when this camera is no longer there.
    fn scenario(&self) -> Answer<Scenario> {
        read(&self.node)
            .and_then(|found| if found.serial == self.serial { Ok(found) } else { Err(libc::ENODEV) })
    }

    pub(crate) fn log(&self, what: &str) {
        log(&self.node, what);
    }

    pub(crate) fn mapped(&mut self, offset: libc::off_t, memory: *mut c_void) {
        if let Some(buffer) = self.buffers.get_mut((offset / libc::off_t::from(BUFFER_BYTES)) as usize) {
            *buffer = Memory(memory.cast());
        }
    }

    fn QUERYCAP(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_capability) -> Answer {
        fill(&mut found.card, &scenario.card);
        fill(&mut found.driver, &scenario.driver);
        fill(&mut found.bus_info, &scenario.bus);
        // The node's own are a part of the device's, which has a node for metadata too.
        found.capabilities = 0x8480_0001 | scenario.caps;
        found.device_caps = scenario.caps;
        Ok(())
    }

    fn ENUM_FMT(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_fmtdesc) -> Answer {
        let format = scenario.formats.get(found.index as usize).ok_or(libc::EINVAL)?;
        found.pixelformat = u32::from_le_bytes(format.code);
        Ok(())
    }

    fn ENUM_FRAMESIZES(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_frmsizeenum) -> Answer {
        let format = scenario.format(found.pixel_format.to_le_bytes()).ok_or(libc::EINVAL)?;
        let (sides, _) = format.sizes.get(found.index as usize).ok_or(libc::EINVAL)?;
        match sides[..] {
            [width, height] => {
                found.type_ = v4l2::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE;
                found.__bindgen_anon_1.discrete = v4l2::v4l2_frmsize_discrete { width, height };
            }
            [min_width, max_width, step_width, min_height, max_height, step_height] => {
                found.type_ = v4l2::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_STEPWISE;
                found.__bindgen_anon_1.stepwise = v4l2::v4l2_frmsize_stepwise {
                    min_width,
                    max_width,
                    step_width,
                    min_height,
                    max_height,
                    step_height,
                };
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn ENUM_FRAMEINTERVALS(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_frmivalenum) -> Answer {
        let format = scenario.format(found.pixel_format.to_le_bytes()).ok_or(libc::EINVAL)?;
        let is_meant = |(sides, _): &&(Vec<u32>, Vec<u32>)| match sides[..] {
            [width, height] => (width, height) == (found.width, found.height),
            [w_min, w_max, _, h_min, h_max, _] => {
                (w_min..=w_max).contains(&found.width) && (h_min..=h_max).contains(&found.height)
            }
            _ => false,
        };
        let (sides, rates) = format.sizes.iter().find(is_meant).ok_or(libc::EINVAL)?;
        let time = |rate: u32| v4l2::v4l2_fract { numerator: 1, denominator: rate };
        match (sides.len(), &rates[..]) {
            (6, [slowest, fastest]) if found.index == 0 => {
                found.type_ = v4l2::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_CONTINUOUS;
                let (min, max) = (time(*fastest), time(*slowest));
                found.__bindgen_anon_1.stepwise = v4l2::v4l2_frmival_stepwise { min, max, step: time(1) };
            }
            (2, rates) => {
                found.type_ = v4l2::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE;
                found.__bindgen_anon_1.discrete = time(*rates.get(found.index as usize).ok_or(libc::EINVAL)?);
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn S_FMT(&mut self, scenario: &Scenario, format: &mut v4l2::v4l2_format) -> Answer {
        // SAFETY: the only kind of buffers that is emulated has this member.
        let pix = unsafe { &mut format.fmt.pix };
        let asked = pix.pixelformat.to_le_bytes();
        self.log(&format!("S_FMT {} {}x{}", String::from_utf8_lossy(&asked), pix.width, pix.height));
        if let Some((_, code)) = scenario.refused.iter().find(|(code, _)| *code == asked) {
            return Err(*code);
        }
        if self.is_streaming || !self.buffers.is_empty() {
            return Err(libc::EBUSY);
        }
        self.code = scenario.gives.unwrap_or(asked);
        self.size = scenario.gives_size.unwrap_or((pix.width, pix.height));
        pix.pixelformat = u32::from_le_bytes(self.code);
        (pix.width, pix.height) = self.size;
        pix.bytesperline = scenario.stride;
        pix.sizeimage = BUFFER_BYTES;
        pix.colorspace = scenario.colorspace;
        pix.quantization = scenario.quantization;
        pix.__bindgen_anon_1.ycbcr_enc = scenario.ycbcr;
        Ok(())
    }

    fn S_PARM(&mut self, _: &Scenario, found: &mut v4l2::v4l2_streamparm) -> Answer {
        // SAFETY: the only kind of buffers that is emulated has this member.
        let capture = unsafe { &mut found.parm.capture };
        let v4l2::v4l2_fract { numerator, denominator } = capture.timeperframe;
        self.log(&format!("S_PARM {numerator}/{denominator}"));
        capture.capability = v4l2::V4L2_CAP_TIMEPERFRAME;
        Ok(())
    }

    fn REQBUFS(&mut self, _: &Scenario, found: &mut v4l2::v4l2_requestbuffers) -> Answer {
        self.log(&format!("REQBUFS {}", found.count));
        if self.is_streaming {
            return Err(libc::EBUSY);
        }
        self.queued.clear();
        self.buffers = vec![Memory(std::ptr::null_mut()); found.count as usize];
        Ok(())
    }

    fn QUERYBUF(&mut self, _: &Scenario, buffer: &mut v4l2::v4l2_buffer) -> Answer {
        if buffer.index as usize >= self.buffers.len() {
            return Err(libc::EINVAL);
        }
        buffer.length = BUFFER_BYTES;
        buffer.m.offset = buffer.index * BUFFER_BYTES;
        Ok(())
    }

    fn QBUF(&mut self, _: &Scenario, buffer: &mut v4l2::v4l2_buffer) -> Answer {
        if buffer.index as usize >= self.buffers.len() || self.queued.contains(&buffer.index) {
            return Err(libc::EINVAL);
        }
        self.queued.push_back(buffer.index);
        Ok(())
    }

    fn DQBUF(&mut self, scenario: &Scenario, buffer: &mut v4l2::v4l2_buffer) -> Answer {
        if !self.is_streaming {
            return Err(libc::EINVAL);
        }
        let index = self.queued.pop_front().ok_or(libc::EAGAIN)?;
        let memory = self.buffers.get(index as usize).copied().ok_or(libc::EINVAL)?;
        let bytes = std::fs::read(&scenario.frame).unwrap_or_default();
        let n_bytes = bytes.len().min(BUFFER_BYTES as usize);
        if !memory.0.is_null() {
            // SAFETY: the process has mapped so many bytes here, and waits for them.
            unsafe { memory.0.copy_from_nonoverlapping(bytes.as_ptr(), n_bytes) };
        }
        (buffer.index, buffer.bytesused, buffer.length) = (index, n_bytes as u32, BUFFER_BYTES);
        (buffer.flags, buffer.sequence) = (scenario.flags, self.sequence);
        self.sequence += 1;
        self.next_at = Instant::now() + Duration::from_millis(scenario.period_ms);
        Ok(())
    }

    fn STREAMON(&mut self, scenario: &Scenario, _: &mut c_int) -> Answer {
        self.log("STREAMON");
        if scenario.narrow.contains(&self.code) {
            return Err(libc::ENOSPC);
        }
        self.is_streaming = true;
        Ok(())
    }

    fn STREAMOFF(&mut self, _: &Scenario, _: &mut c_int) -> Answer {
        self.log("STREAMOFF");
        self.is_streaming = false;
        self.queued.clear();
        Ok(())
    }
}

pub(crate) fn fill(to: &mut [u8], from: &str) {
    to.fill(0);
    let n_kept = to.len() - 1;
    for (to, from) in to.iter_mut().zip(from.bytes().take(n_kept)) {
        *to = from;
    }
}
