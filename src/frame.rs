//! One decoded image of one camera, and the names by which it is spoken of later.

use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

/// One decoded image of one camera.
#[derive(Debug)]
pub struct Frame {
    pub id: FrameId,
    /// When the image was taken, for everything that is compared.
    pub taken: Instant,
    /// How long decoding took.
    pub decode: Duration,
    pub image: RgbImage,
}

/// Which frame a result is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// Index of the camera in the configuration.
    pub camera: usize,
    /// Counts the frames of one camera from 1, overwritten and gated ones included.
    pub seq: u64,
    /// Wall clock, for people.
    pub captured_at: SystemTime,
    /// The name of a replayed photo, without its folder.
    pub file: Option<String>,
}
