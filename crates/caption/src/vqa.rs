//! Questions about a frame, answered by ranking a short list of answers.
//!
//! Two kinds of evidence are added, with weights from the bundle:
//!
//! - what the decoder finds likelier with this image than with none in particular: the difference of
//!   two mean log-probabilities. The difference takes away what language alone makes likely;
//! - how near the image is to the answer put as a statement: a cosine times the logit scale.
//!
//! A fitted kind of question may also weigh what language alone makes likely, and divides the sum by a temperature that
//! makes the score the chance of being right.
//!
//! A yes-or-no question is turned into one statement, whose evidence plus a bias is set against 0.
//! Nothing here counts, reads or locates: a decoder that was trained on captions knows what scenes
//! are like, and no more. What the ranking cannot do is for `docs/` to say and for evaluations to show.

use crate::bundle::VqaSettings;
use crate::captioner::{Caption, Captioner};
use crate::encoder::TextEncoder;
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
/// Hypotheses among which such an answer is found.
const FREE_BEAM_WIDTH: usize = 4;

/// A question about a frame; with `choices` the answer is one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// A question, or a statement to be judged true or false.
    pub text: String,
    pub choices: Vec<String>,
    /// The kind of answer that is wanted; none where the wording tells.
    pub kind: Option<AnswerKind>,
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

/// How the candidates of a question are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerKind {
    YesNo,
    Color,
    Number,
    /// One of a list that comes with the question.
    Choice,
}

impl AnswerKind {
    pub const ALL: [AnswerKind; 4] =
        [AnswerKind::YesNo, AnswerKind::Color, AnswerKind::Number, AnswerKind::Choice];

    /// As the manifest spells it.
    pub fn name(self) -> &'static str {
        match self {
            AnswerKind::YesNo => "yes_no",
            AnswerKind::Color => "color",
            AnswerKind::Number => "number",
            AnswerKind::Choice => "choice",
        }
    }
}

/// What speaks for one candidate, before it is weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    pub text: String,
    /// Mean log-probability of the candidate's tokens with this image less that with none in particular.
    pub lift: f32,
    /// Mean log-probability with no image in particular.
    pub prior: f32,
    /// Cosine of the candidate as a statement with the image, times the bundle's logit scale.
    pub nearness: f32,
    /// Whether the bundle's bias belongs to it: the yes of a yes-or-no question.
    pub biased: bool,
}

/// Every candidate of a question with what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub kind: AnswerKind,
    /// At least one.
    pub candidates: Vec<Evidence>,
}

impl Ranking {
    /// The share of the probability of each candidate, in their order; sum 1.
    pub fn shares(&self, settings: &VqaSettings) -> Vec<f32> {
        let weights = settings.of_kind(self.kind);
        let weigh = |evidence: &Evidence| {
            let bias = if evidence.biased { settings.yes_bias } else { 0.0 };
            let sum = weights.decoder_weight * evidence.lift
                + weights.similarity_weight * evidence.nearness
                + weights.prior_weight * evidence.prior;
            (sum + bias) / weights.temperature
        };
        let mut shares: Vec<f32> = self.candidates.iter().map(weigh).collect();
        vector::softmax(&mut shares);
        shares
    }
}

/// What a bundle makes of a question, before the settings have their say.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Ranked(Ranking),
    /// What the decoder goes on to say, where there is nothing to choose from; with the score of [`Answer`].
    Said {
        text: String,
        score: f32,
    },
}

impl Reply {
    pub fn answer(&self, settings: &VqaSettings) -> Answer {
        let mut candidates: Vec<(String, f32)> = match self {
            Reply::Said { text, score } => vec![(text.clone(), *score)],
            Reply::Ranked(ranking) => {
                let texts = ranking.candidates.iter().map(|evidence| evidence.text.clone());
                texts.zip(ranking.shares(settings)).collect()
            }
        };
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (text, score) = candidates.first().cloned().unwrap_or_default();
        let verdict = if score < settings.unsure_below { Verdict::Unsure } else { Verdict::Answered };
        Answer { text, score, verdict, candidates }
    }
}

/// What an answer is made from. `conditioned` is the image embedding as the adapter takes it,
/// `neutral` the same for no image in particular.
pub(crate) struct Answerer<'m> {
    pub(crate) captioner: &'m mut Captioner,
    pub(crate) text_encoder: &'m mut TextEncoder,
    pub(crate) tokenizer: &'m Tokenizer,
    pub(crate) logit_scale: f32,
    /// Of the image, unit norm.
    pub(crate) embedding: Vec<f32>,
    pub(crate) conditioned: Vec<f32>,
    pub(crate) neutral: Vec<f32>,
    pub(crate) neutral_text: &'m [f32],
}

impl Answerer<'_> {
    pub(crate) fn reply(&mut self, question: &Question) -> Result<Reply, CaptionError> {
        check(question)?;
        let prompt = self.tokenizer.encode(&question.text);
        let max = self.captioner.settings().max_prompt_tokens();
        if prompt.len() > max {
            return Err(CaptionError::Request(format!(
                "the question has {} tokens, this bundle takes {max}",
                prompt.len()
            )));
        }
        let listed: Vec<&str> = question.choices.iter().map(String::as_str).collect();
        match question.kind {
            Some(AnswerKind::YesNo) => return self.judge(question),
            Some(kind @ AnswerKind::Color) => return self.choose(kind, question, &prompt, &phrase::COLORS),
            Some(kind @ AnswerKind::Number) => return self.choose(kind, question, &prompt, &phrase::NUMBERS),
            Some(kind @ AnswerKind::Choice) => return self.choose(kind, question, &prompt, &listed),
            None => {}
        }
        let kind = phrase::kind(&question.text);
        let listed_kind = match kind {
            Kind::Color => AnswerKind::Color,
            Kind::Number => AnswerKind::Number,
            Kind::YesNo | Kind::Open => AnswerKind::Choice,
        };
        match kind {
            _ if !listed.is_empty() && !is_yes_no(&listed) => {
                self.choose(listed_kind, question, &prompt, &listed)
            }
            Kind::YesNo => self.judge(question),
            _ if !listed.is_empty() => self.choose(listed_kind, question, &prompt, &listed),
            Kind::Color => self.choose(AnswerKind::Color, question, &prompt, &phrase::COLORS),
            Kind::Number => self.choose(AnswerKind::Number, question, &prompt, &phrase::NUMBERS),
            Kind::Open => self.speak(&prompt),
        }
    }

    /// Yes or no, by the evidence for the question as a statement.
    fn judge(&mut self, question: &Question) -> Result<Reply, CaptionError> {
        let statement = phrase::statement(&question.text, "");
        let tokens = [self.tokenizer.encode(&statement)];
        let (lift, prior) = self.lift(&[], &tokens)?[0];
        let ordinary = self.logit_scale * vector::dot(&self.embedding, self.neutral_text);
        let nearness = self.nearness(&[statement])?[0] - ordinary;
        // Answers come back as the caller spelled them.
        let spelled = |answer: &str| {
            let choice = question.choices.iter().find(|choice| choice.trim().eq_ignore_ascii_case(answer));
            choice.cloned().unwrap_or_else(|| answer.to_owned())
        };
        let yes = Evidence { text: spelled("yes"), lift, prior, nearness, biased: true };
        let no = Evidence { text: spelled("no"), lift: 0.0, prior: 0.0, nearness: 0.0, biased: false };
        Ok(Reply::Ranked(Ranking { kind: AnswerKind::YesNo, candidates: vec![yes, no] }))
    }

    /// One of `answers`, by the evidence for each.
    fn choose(
        &mut self,
        kind: AnswerKind,
        question: &Question,
        prompt: &[u32],
        answers: &[&str],
    ) -> Result<Reply, CaptionError> {
        let tokens: Vec<Vec<u32>> = answers.iter().map(|answer| self.tokenizer.encode(answer)).collect();
        let statements: Vec<String> =
            answers.iter().map(|answer| phrase::statement(&question.text, answer)).collect();
        let lifts = self.lift(prompt, &tokens)?;
        let near = self.nearness(&statements)?;
        let evidence = |(answer, ((lift, prior), nearness)): (&&str, ((f32, f32), f32))| Evidence {
            text: (*answer).to_owned(),
            lift,
            prior,
            nearness,
            biased: false,
        };
        let candidates = answers.iter().zip(std::iter::zip(lifts, near)).map(evidence).collect();
        Ok(Reply::Ranked(Ranking { kind, candidates }))
    }

    /// What the decoder goes on to say after the question. A yes or a no is no answer to it, however likely the
    /// decoder finds them after questions.
    fn speak(&mut self, prompt: &[u32]) -> Result<Reply, CaptionError> {
        let said =
            self.captioner.continuations(&self.conditioned, prompt, MAX_FREE_TOKENS, FREE_BEAM_WIDTH)?;
        let is_open = |said: &&Caption| !["yes", "no"].contains(&said.text.as_str());
        let best = said.iter().find(is_open).or(said.first()).cloned();
        let Caption { text, score } = best.unwrap_or_else(|| Caption { text: String::new(), score: 0.0 });
        Ok(Reply::Said { text, score })
    }

    /// How much likelier each sequence is with this image than with none in particular, and how likely with none.
    fn lift(&mut self, prompt: &[u32], sequences: &[Vec<u32>]) -> Result<Vec<(f32, f32)>, CaptionError> {
        let with = self.captioner.log_likelihoods(&self.conditioned, prompt, sequences)?;
        let without = self.captioner.log_likelihoods(&self.neutral, prompt, sequences)?;
        Ok(std::iter::zip(with, without).map(|(with, without)| (with - without, without)).collect())
    }

    /// Cosines of the image with the statements, times the logit scale.
    fn nearness(&mut self, statements: &[String]) -> Result<Vec<f32>, CaptionError> {
        let embeddings = self.text_encoder.encode(statements)?;
        let near = |text: &Vec<f32>| self.logit_scale * vector::dot(text, &self.embedding);
        Ok(embeddings.iter().map(near).collect())
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
    if question.choices.is_empty() && question.kind == Some(AnswerKind::Choice) {
        return refuse("there is nothing to choose from".to_owned());
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
