//! What is asked of every scene: labels, standing questions, rules.

use std::time::Instant;

use caption::CaptionError;

use super::{Pipeline, Sight, Vision as _};
use crate::frame::Frame;
use crate::message::{Answered, Ask, Event, Labels, Publication, Reply};
use crate::standing::{StandingChange, log_odds};

impl Pipeline<'_> {
    /// Looks at a frame for whatever stands; for labels only if it was encoded. One thing that fails does not stop the
    /// others.
    pub(super) fn stand(&mut self, frame: &Frame, is_changed: bool) {
        let camera = frame.id.camera;
        self.cameras[camera].last = Some(frame.id.clone());
        if self.cameras[camera].standing.is_empty() {
            return;
        }
        if let Err(e) = self.see_labels(frame, is_changed) {
            tracing::error!(camera, seq = frame.id.seq, error = %e, "labels were not looked for");
        }
        for i in self.cameras[camera].standing.due(is_changed, Instant::now()) {
            self.ask_standing(frame, i);
        }
    }

    fn see_labels(&mut self, frame: &Frame, is_changed: bool) -> Result<(), CaptionError> {
        let camera = &mut self.cameras[frame.id.camera];
        let texts = camera.standing.label_texts();
        let Some((seq, Sight { view, .. })) = &camera.seen else { return Ok(()) };
        if *seq != frame.id.seq || texts.is_empty() {
            return Ok(());
        }
        if camera.label_rows.is_none() {
            let vision = &mut self.visions[camera.vision];
            let rows = texts.iter().map(|texts| vision.logit_rows(texts)).collect::<Result<_, _>>()?;
            camera.label_rows = Some(rows);
        }
        let logit = |row: &Vec<f32>| row.iter().zip(&view.embedding).map(|(a, b)| a * b).sum();
        let rows = camera.label_rows.iter().flatten();
        let logits: Vec<f32> =
            rows.map(|rows| log_odds(&rows.iter().map(logit).collect::<Vec<f32>>())).collect();
        let has_turned = camera.standing.see(&logits, Instant::now());
        if has_turned || is_changed {
            let labels = Labels { frame: frame.id.clone(), readings: camera.standing.readings() };
            self.publish(frame.id.camera, Publication::Labels(labels));
        }
        Ok(())
    }

    /// Asks a standing question of a frame, as somebody would.
    fn ask_standing(&mut self, frame: &Frame, i: usize) {
        let camera = frame.id.camera;
        let Some(config) = self.cameras[camera].standing.question(i).cloned() else { return };
        let ask = Ask {
            camera,
            question: config.question,
            reply: Reply::default(),
            asked_at: Instant::now(),
            deadline: None,
        };
        let outcome = self.read(&ask, Some(frame));
        let sure =
            outcome.as_ref().ok().filter(|reading| reading.answer.verdict == caption::Verdict::Answered);
        let answer = sure.map(|reading| reading.answer.text.clone());
        self.cameras[camera].standing.hear_answer(&config.id, answer.as_deref());
        self.publish(camera, Publication::StandingAnswer(config.id, Answered { ask, outcome }));
    }

    /// Says which rules have begun or ended. Called at least once a second.
    pub(super) fn tick(&mut self) {
        let (now, minute) = (Instant::now(), self.minute_of_day);
        for i in 0..self.cameras.len() {
            let camera = &mut self.cameras[i];
            let Some(frame) = camera.last.clone().filter(|_| camera.standing.has_rules()) else { continue };
            let caption = camera.told.as_ref().map(|told| told.caption.text.clone());
            for event in camera.standing.tick(now, minute()) {
                let event = Event { frame: frame.clone(), event, caption: caption.clone() };
                self.publish(i, Publication::Event(event));
            }
        }
    }

    pub(super) fn change_standing(&mut self, camera: usize, changes: Vec<StandingChange>) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            if let Err(why) = self.cameras[camera].standing.change(change) {
                tracing::warn!(camera, why, "wish for a question, a label or a rule not granted");
            }
        }
        let camera_state = &mut self.cameras[camera];
        camera_state.label_rows = None;
        // The scene that is there is looked at anew.
        camera_state.gate.forget();
        let config = camera_state.standing.config().clone();
        self.publish(camera, Publication::Standing(camera, config));
    }
}
