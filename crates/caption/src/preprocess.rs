//! A frame to the image encoder's input. Decoding JPEG or PNG does not belong here.

use engine::Tensor;
use fast_image_resize::images::{Image as Resized, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::bundle::{Filter, PreprocessSettings, Resize};

/// Resizes `image` and normalises it: f32 (1, 3, height, width), channels red, green, blue.
///
/// An image without pixels counts as black.
pub fn preprocess(image: &RgbImage, settings: &PreprocessSettings) -> Tensor {
    let (width, height) = (settings.width, settings.height);
    let resized = resize(image, settings);
    let mut planes = vec![0.0; 3 * width * height];
    for (channel, plane) in planes.chunks_exact_mut(width * height).enumerate() {
        let (mean, std) = (settings.mean[channel], settings.std[channel]);
        for (value, pixel) in plane.iter_mut().zip(resized.chunks_exact(3)) {
            *value = (f32::from(pixel[channel]) - mean) / std;
        }
    }
    Tensor::f32([1, 3, height, width], planes)
}

/// Interleaved RGB of the size that the settings ask for.
fn resize(image: &RgbImage, settings: &PreprocessSettings) -> Vec<u8> {
    let (width, height) = (settings.width as u32, settings.height as u32);
    let mut resized = Resized::new(width, height, PixelType::U8x3);
    let filter = match settings.filter {
        // CLIP-style encoders are trained on antialiased bicubic input; Catmull-Rom is the cubic with
        // a = -0.5 that Pillow calls BICUBIC. Columns come before rows here and after them there, with
        // rounding in between: a level of difference here and there, more only where sums are clipped.
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Bilinear,
    };
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    match settings.resize {
        Resize::Squash => {}
        Resize::Crop => options = options.fit_into_destination(Some((0.5, 0.5))),
        Resize::Shortest => {
            let side = settings.shortest.unwrap_or(settings.width.min(settings.height));
            return shortest(image, side as u32, (width, height), &options);
        }
    }
    // Both calls fail only for an image without pixels: the type is right and the box fits by construction.
    if let Ok(source) = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        && Resizer::new().resize(&source, &mut resized, &options).is_err()
    {
        return vec![0; (width * height * 3) as usize];
    }
    resized.into_vec()
}

/// What is left of `image` when its shortest side is resized to `side` and the centre cut out of that, without ever
/// making more of it than the cut: a picture of one row would be as wide as it likes.
///
/// Columns come before rows, with rounding in between, as in Pillow, and sizes and offsets are whole numbers as in
/// CLIP's preprocessing: a pixel differs from its reference by a level at most.
fn shortest(image: &RgbImage, side: u32, (width, height): (u32, u32), options: &ResizeOptions) -> Vec<u8> {
    let black = vec![0; (width * height * 3) as usize];
    let (from_width, from_height) = (image.width(), image.height());
    let short = from_width.min(from_height);
    if short == 0 {
        return black;
    }
    // Where the cut begins and how long it is, in pixels of the picture.
    let cut = |from: u32, to: u32| {
        let resized = u64::from(side) * u64::from(from) / u64::from(short);
        let scale = f64::from(from) / resized as f64;
        let first = resized.saturating_sub(u64::from(to)) / 2;
        (first as f64 * scale, f64::from(to) * scale)
    };
    let ((left, box_width), (top, box_height)) = (cut(from_width, width), cut(from_height, height));
    let mut narrow = Resized::new(width, from_height, PixelType::U8x3);
    let mut resized = Resized::new(width, height, PixelType::U8x3);
    let columns = options.crop(left, 0.0, box_width, f64::from(from_height));
    let rows = options.crop(0.0, top, f64::from(width), box_height);
    // These calls fail only for a box that does not fit, and it does by construction.
    let done = ImageRef::new(from_width, from_height, image.as_raw(), PixelType::U8x3)
        .is_ok_and(|source| Resizer::new().resize(&source, &mut narrow, &columns).is_ok())
        && Resizer::new().resize(&narrow, &mut resized, &rows).is_ok();
    if done { resized.into_vec() } else { black }
}
