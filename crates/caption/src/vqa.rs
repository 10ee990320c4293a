//! Questions about a frame, answered by ranking a short list of answers.
//!
//! Two kinds of evidence are added, with weights from the bundle:
//!
//! - what the decoder finds likelier with this image than with none in particular: the difference of
//!   two mean log-probabilities. The difference takes away what language alone makes likely;
//! - how near the image is to the answer put as a statement: a cosine times the logit scale.
//!
//! A yes-or-no question is turned into one statement, whose evidence plus a bias is set against 0.
//! Nothing here counts, reads or locates: a decoder that was trained on captions knows what scenes
//! are like, and no more. What the ranking cannot do is for `docs/` to say and for evaluations to show.

use crate::bundle::VqaSettings;
use crate::captioner::Captioner;
use crate::encoder::{ImageView, TextEncoder};
use crate::phrase::{self, Kind};
use crate::tokenizer::Tokenizer;
use crate::{CaptionError, vector};

/// Characters of a question.
const MAX_QUESTION_CHARS: usize = 300;
/// Choices of a question, and characters of one.
const MAX_CHOICES: usize = 32;
const MAX_CHOICE_CHARS: usize = 100;
/// Tokens of an answer that is not chosen from a list.
const MAX_FREE_TOKENS: usize = 6;

/// A question about a frame; with `choices` the answer is one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// A question, or a statement to be judged true or false.
    pub text: String,
    pub choices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Answered,
    /// The score is below the bundle's threshold: the answer is a guess.
    Unsure,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub text: String,
    /// Share of the probability among the candidates, 0 to 1; for an answer that was not chosen from
    /// a list, the geometric mean probability of its tokens.
    pub score: f32,
    pub verdict: Verdict,
    /// Every candidate with its share, best first.
    pub candidates: Vec<(String, f32)>,
}

/// What an answer is made from. `conditioned` is the image embedding as the adapter takes it,
/// `neutral` the same for no image in particular.
pub(crate) struct Answerer<'m> {
    pub(crate) captioner: &'m mut Captioner,
    pub(crate) text_encoder: &'m mut TextEncoder,
    pub(crate) tokenizer: &'m Tokenizer,
    pub(crate) settings: &'m VqaSettings,
    pub(crate) logit_scale: f32,
    pub(crate) conditioned: Vec<f32>,
    pub(crate) neutral: &'m [f32],
    pub(crate) neutral_text: &'m [f32],
}

impl Answerer<'_> {
    pub(crate) fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        check(question)?;
        let prompt = self.tokenizer.encode(&question.text);
        let max = self.captioner.settings().max_prompt_tokens();
        if prompt.len() > max {
            return Err(CaptionError::Request(format!(
                "the question has {} tokens, this bundle takes {max}",
                prompt.len()
            )));
        }
        let kind = phrase::kind(&question.text);
        let listed: Vec<&str> = question.choices.iter().map(String::as_str).collect();
        match kind {
            _ if !listed.is_empty() && !is_yes_no(&listed) => self.choose(view, question, &prompt, &listed),
            Kind::YesNo => self.judge(view, question),
            _ if !listed.is_empty() => self.choose(view, question, &prompt, &listed),
            Kind::Color => self.choose(view, question, &prompt, &phrase::COLORS),
            Kind::Number => self.choose(view, question, &prompt, &phrase::NUMBERS),
            Kind::Open => self.speak(&prompt),
        }
    }

    /// Yes or no, by the evidence for the question as a statement.
    fn judge(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        let statement = phrase::statement(&question.text, "");
        let tokens = [self.tokenizer.encode(&statement)];
        let lift = self.lift(&[], &tokens)?[0];
        let near = self.nearness(view, &[statement])?[0] - vector::dot(&view.embedding, self.neutral_text);
        let yes = self.weigh(lift, near) + self.settings.yes_bias;
        // Answers come back as the caller spelled them.
        let spelled = |answer: &str| {
            let choice = question.choices.iter().find(|choice| choice.trim().eq_ignore_ascii_case(answer));
            choice.cloned().unwrap_or_else(|| answer.to_owned())
        };
        Ok(self.ranked(vec![(spelled("yes"), yes), (spelled("no"), 0.0)]))
    }

    /// One of `answers`, by the evidence for each.
    fn choose(
        &mut self,
        view: &ImageView,
        question: &Question,
        prompt: &[u32],
        answers: &[&str],
    ) -> Result<Answer, CaptionError> {
        let tokens: Vec<Vec<u32>> = answers.iter().map(|answer| self.tokenizer.encode(answer)).collect();
        let statements: Vec<String> =
            answers.iter().map(|answer| phrase::statement(&question.text, answer)).collect();
        let lifts = self.lift(prompt, &tokens)?;
        let near = self.nearness(view, &statements)?;
        let evidence = std::iter::zip(lifts, near).map(|(lift, near)| self.weigh(lift, near));
        let scored = answers.iter().map(|answer| (*answer).to_owned()).zip(evidence).collect();
        Ok(self.ranked(scored))
    }

    /// What the decoder goes on to say after the question.
    fn speak(&mut self, prompt: &[u32]) -> Result<Answer, CaptionError> {
        let said = self.captioner.complete(&self.conditioned, prompt, MAX_FREE_TOKENS)?;
        let (text, score) = (said.text, said.score);
        Ok(Answer { candidates: vec![(text.clone(), score)], verdict: self.verdict(score), text, score })
    }

    /// How much likelier each sequence is with this image than with none in particular.
    fn lift(&mut self, prompt: &[u32], sequences: &[Vec<u32>]) -> Result<Vec<f32>, CaptionError> {
        let with = self.captioner.log_likelihoods(&self.conditioned, prompt, sequences)?;
        let without = self.captioner.log_likelihoods(self.neutral, prompt, sequences)?;
        Ok(std::iter::zip(with, without).map(|(with, without)| with - without).collect())
    }

    fn nearness(&mut self, view: &ImageView, statements: &[String]) -> Result<Vec<f32>, CaptionError> {
        let embeddings = self.text_encoder.encode(statements)?;
        Ok(embeddings.iter().map(|text| vector::dot(text, &view.embedding)).collect())
    }

    fn weigh(&self, lift: f32, cosine: f32) -> f32 {
        self.settings.decoder_weight * lift + self.settings.similarity_weight * self.logit_scale * cosine
    }

    fn ranked(&self, scored: Vec<(String, f32)>) -> Answer {
        let mut shares: Vec<f32> = scored.iter().map(|(_, evidence)| *evidence).collect();
        vector::softmax(&mut shares);
        let mut candidates: Vec<(String, f32)> =
            scored.into_iter().map(|(text, _)| text).zip(shares).collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (text, score) = candidates.first().cloned().unwrap_or_default();
        Answer { text, score, verdict: self.verdict(score), candidates }
    }

    fn verdict(&self, score: f32) -> Verdict {
        if score < self.settings.unsure_below { Verdict::Unsure } else { Verdict::Answered }
    }
}

fn check(question: &Question) -> Result<(), CaptionError> {
    let refuse = |why: String| Err(CaptionError::Request(why));
    if question.text.trim().is_empty() {
        return refuse("the question is empty".to_owned());
    }
    if question.text.chars().count() > MAX_QUESTION_CHARS {
        return refuse(format!("the question is longer than {MAX_QUESTION_CHARS} characters"));
    }
    if question.choices.len() > MAX_CHOICES {
        return refuse(format!("the question has more than {MAX_CHOICES} choices"));
    }
    for choice in &question.choices {
        if choice.trim().is_empty() || choice.chars().count() > MAX_CHOICE_CHARS {
            return refuse(format!("a choice is empty or longer than {MAX_CHOICE_CHARS} characters"));
        }
    }
    Ok(())
}

fn is_yes_no(choices: &[&str]) -> bool {
    let has = |answer: &str| choices.iter().any(|choice| choice.trim().eq_ignore_ascii_case(answer));
    choices.len() == 2 && has("yes") && has("no")
}
