//! A frame to the image encoder's input. Decoding JPEG or PNG does not belong here.

use engine::Tensor;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::ImageRef};
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
    let mut resized = fast_image_resize::images::Image::new(width, height, PixelType::U8x3);
    let filter = match settings.filter {
        // CLIP-style encoders are trained on antialiased bicubic input; Catmull-Rom is the cubic with
        // a = -0.5 that Pillow calls BICUBIC. Columns come before rows here and after them there, with
        // rounding in between: a level of difference here and there, more only where sums are clipped.
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    if settings.resize == Resize::Crop {
        options = options.fit_into_destination(Some((0.5, 0.5)));
    }
    // Both calls fail only for an image without pixels: the type is right and the box fits by construction.
    if let Ok(source) = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        && Resizer::new().resize(&source, &mut resized, &options).is_err()
    {
        return vec![0; (width * height * 3) as usize];
    }
    resized.into_vec()
}
