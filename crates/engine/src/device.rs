//! Where graphs run, and how users and payloads name it.

use std::fmt;
use std::str::FromStr;

/// Where a graph runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// CUDA device of this index.
    Cuda(usize),
    /// CUDA device of this index, with TensorRT for the graphs whose inputs have one size.
    TensorRt(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(idx) => write!(f, "cuda:{idx}"),
            Device::TensorRt(idx) => write!(f, "tensorrt:{idx}"),
        }
    }
}

/// What a user asks for: one device, or two of which the second is for want of the first.
///
/// It parses from `cpu`, `cuda:N`, `tensorrt:N` and `cuda-or-cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Only(Device),
    /// The first CUDA device, or the CPU where there is none that runs.
    CudaOrCpu,
}

impl Default for DeviceChoice {
    fn default() -> Self {
        DeviceChoice::Only(Device::Cpu)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Only(device) => device.fmt(f),
            DeviceChoice::CudaOrCpu => f.write_str("cuda-or-cpu"),
        }
    }
}

/// No name of a device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be \"cpu\", \"cuda:N\", \"tensorrt:N\" or \"cuda-or-cpu\" (got {0:?})")]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No machine has more devices than a byte counts; digits alone, since parsing takes a sign, too.
        let idx = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u8>().ok().filter(|_| is_number).map(usize::from)
        };
        let device = match (text, text.split_once(':')) {
            ("cuda-or-cpu", _) => return Ok(DeviceChoice::CudaOrCpu),
            ("cpu", _) => Some(Device::Cpu),
            (_, Some(("cuda", n))) => idx(n).map(Device::Cuda),
            (_, Some(("tensorrt", n))) => idx(n).map(Device::TensorRt),
            _ => None,
        };
        device.map(DeviceChoice::Only).ok_or_else(|| ParseDeviceError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_says_what_it_was_parsed_from() {
        for name in ["cpu", "cuda:0", "cuda:3", "tensorrt:0", "cuda-or-cpu"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_is_no_device_is_refused_with_its_text() {
        for text in ["", "gpu", "CPU", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:256", "cuda:0:1", "cpu:0"]
        {
            assert_eq!(text.parse::<DeviceChoice>(), Err(ParseDeviceError(text.to_owned())));
        }
    }
}
