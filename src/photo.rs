//! Photos on disk and in memory: which files of a folder are photos, and safe decoding.
//!
//! Bytes from a camera or a stranger's folder are hostile until decoded: sizes are bounded before
//! memory is taken.

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

/// Largest file that is read.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Largest width and height, in pixels.
pub const SIDE_MAX: u32 = 16_384;
/// Largest decoded image, in bytes.
pub const DECODED_BYTES_MAX: u64 = 256 << 20;

/// Longest side of a picture that is published, in pixels.
pub const IMAGE_SIDE_MAX: u32 = 640;
const JPEG_QUALITY: u8 = 80;

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Why a photo did not become pixels.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("decode photo: {0}")]
    Decode(#[from] image::ImageError),
    #[error("{folder} holds more than {limit} photos")]
    TooMany { folder: PathBuf, limit: usize },
    #[error("photo of {found} bytes is larger than the limit of {limit}")]
    TooLarge { found: u64, limit: u64 },
}

/// The photos of a folder, one level deep, in the order of their names.
///
/// # Errors
/// [`PhotoError::Read`] when the folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, PhotoError> {
    let failed = |source| PhotoError::Read { path: folder.to_owned(), source };
    let mut photos = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_photo(&path) && path.is_file() {
            photos.push(path);
        }
    }
    photos.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(photos)
}

fn is_photo(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads a photo file of at most [`FILE_BYTES_MAX`].
pub fn read(path: &Path) -> Result<Vec<u8>, PhotoError> {
    let failed = |source| PhotoError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 {
        found if found > FILE_BYTES_MAX => Err(PhotoError::TooLarge { found, limit: FILE_BYTES_MAX }),
        _ => Ok(bytes),
    }
}

/// Width and height of a JPEG or PNG, before any orientation. Reads its header alone.
pub fn size(bytes: &[u8]) -> Result<(u32, u32), PhotoError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let reader = reader.map_err(|source| PhotoError::Decode(image::ImageError::IoError(source)))?;
    Ok(reader.into_dimensions()?)
}

/// Decodes a JPEG or PNG, upright according to its Exif orientation.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, PhotoError> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|source| PhotoError::Decode(image::ImageError::IoError(source)))?;
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let found = decoder.total_bytes();
    if found > DECODED_BYTES_MAX {
        return Err(PhotoError::TooLarge { found, limit: DECODED_BYTES_MAX });
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// A JPEG of the picture, its longer side [`IMAGE_SIDE_MAX`] at most.
///
/// # Errors
/// When the picture cannot be encoded: it has no pixels.
pub fn encode(image: &RgbImage) -> Result<Vec<u8>, PhotoError> {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    if longest <= IMAGE_SIDE_MAX {
        encoder.encode_image(image)?;
    } else {
        let scaled =
            |side: u32| (u64::from(side) * u64::from(IMAGE_SIDE_MAX) / u64::from(longest)).max(1) as u32;
        encoder.encode_image(&thumbnail(image, scaled(width), scaled(height)))?;
    }
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb([200, 30, 30]))
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn lists_photos_of_any_case_one_level_deep_in_name_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "c.jpeg", "notes.txt", "noextension"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        fs::create_dir(dir.path().join("deeper.jpg")).unwrap();
        let names: Vec<_> =
            list(dir.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.png", "b.JPG", "c.jpeg"]);
    }

    #[test]
    fn decodes_what_it_should_and_refuses_garbage_and_truncation() {
        let photo = jpeg(40, 30);
        assert_eq!(decode(&photo).unwrap().dimensions(), (40, 30));
        assert_eq!(size(&photo).unwrap(), (40, 30));
        assert!(size(b"not a photo").is_err());
        assert!(decode(b"not a photo").is_err());
        assert!(decode(&photo[..20]).is_err());
        assert!(decode(&[]).is_err());
    }

    #[test]
    fn turns_a_photo_upright() {
        // Exif with orientation 6 (rotate 90 degrees clockwise), spliced in after the start marker.
        let exif = [
            0xFF, 0xE1, 0x00, 0x22, b'E', b'x', b'i', b'f', 0, 0, b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01,
            0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0,
        ];
        let photo = jpeg(40, 30);
        let turned = [&photo[..2], &exif, &photo[2..]].concat();
        assert_eq!(decode(&turned).unwrap().dimensions(), (30, 40));
    }

    #[test]
    fn refuses_dimensions_beyond_the_limit_before_taking_memory() {
        let mut photo = jpeg(8, 8);
        let sof = photo.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        photo[sof + 5..sof + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(decode(&photo).is_err());
    }

    #[test]
    fn a_picture_that_is_published_is_small() {
        for (from, to) in [((1920, 1080), (640, 360)), ((64, 48), (64, 48)), ((5000, 2), (640, 1))] {
            let jpeg = encode(&RgbImage::new(from.0, from.1)).unwrap();
            assert_eq!(decode(&jpeg).unwrap().dimensions(), to);
        }
    }
}
