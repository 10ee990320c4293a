//! A vision whose failures are known to the daemon: one that comes again and again is a state, not an accident.

use caption::{Answer, Caption, CaptionError, ImageView, Question};
use engine::{EngineError, Tensor};
use image::RgbImage;

use super::Vision;
use crate::health::Health;

/// Failures in a row after which nothing is expected to succeed.
const DEGRADED_AFTER: u32 = 3;

/// A vision, and how the engine has answered it.
pub(super) struct Watched<'a> {
    vision: Box<dyn Vision>,
    health: &'a Health,
    /// In a row, of each kind of [`Call`]: an encoder that works says nothing about the decoder.
    n_failed: [u32; 4],
    /// The device's last words.
    pub(super) lost: Option<EngineError>,
}

#[derive(Clone, Copy)]
enum Call {
    Encode,
    Caption,
    Answer,
    LogitRows,
}

impl<'a> Watched<'a> {
    pub(super) fn new(vision: Box<dyn Vision>, health: &'a Health) -> Watched<'a> {
        Watched { vision, health, n_failed: [0; 4], lost: None }
    }

    /// Takes note of what came of a call. What is wrong with a request says nothing about the engine.
    fn note<T>(&mut self, call: Call, outcome: Result<T, CaptionError>) -> Result<T, CaptionError> {
        match outcome {
            Ok(value) => {
                let was_degraded = self.is_degraded();
                self.n_failed[call as usize] = 0;
                if was_degraded && !self.is_degraded() {
                    self.health.set_engine_fault(None);
                }
                Ok(value)
            }
            Err(CaptionError::Engine(e)) => {
                let n_failed = &mut self.n_failed[call as usize];
                *n_failed = n_failed.saturating_add(1);
                if *n_failed >= DEGRADED_AFTER {
                    self.health.set_engine_fault(Some(e.to_string()));
                }
                if let EngineError::Lost { graph, device, why } = &e {
                    let (graph, device, why) = (graph.clone(), device.clone(), why.clone());
                    self.lost = Some(EngineError::Lost { graph, device, why });
                }
                Err(CaptionError::Engine(e))
            }
            Err(other) => Err(other),
        }
    }

    fn is_degraded(&self) -> bool {
        self.n_failed.iter().any(|n| *n >= DEGRADED_AFTER)
    }
}

impl Vision for Watched<'_> {
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        self.vision.preprocess(image)
    }

    fn is_doubtful(&self, pixels: &Tensor) -> bool {
        self.vision.is_doubtful(pixels)
    }

    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        let outcome = self.vision.encode(pixels);
        self.note(Call::Encode, outcome)
    }

    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        let outcome = self.vision.caption(view, opening);
        self.note(Call::Caption, outcome)
    }

    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        let outcome = self.vision.answer(view, question);
        self.note(Call::Answer, outcome)
    }

    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        let outcome = self.vision.logit_rows(texts);
        self.note(Call::LogitRows, outcome)
    }
}
