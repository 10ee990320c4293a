use std::time::{Duration, Instant};

use super::*;

const MINUTE: u16 = 12 * 60;

fn label() -> LabelConfig {
    LabelConfig {
        id: "dog".to_owned(),
        text: "a dog".to_owned(),
        against: vec![],
        threshold: 0.5,
        release: 0.3,
        deviations: 2.0,
        hold: Duration::ZERO,
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn log_odds_are_those_of_the_softmax() {
    let logits = [2.0_f32, 1.0, 0.5];
    let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
    let probability = 1.0 / (1.0 + (-log_odds(&logits)).exp());
    assert!((probability - logits[0].exp() / sum).abs() < 1e-6);
    assert_eq!(log_odds(&[1.0]), f32::INFINITY, "against nothing it is sure");
}

#[test]
fn a_label_turns_on_at_its_threshold_and_off_below_its_release() {
    let mut trigger = Trigger::new(label());
    let now = Instant::now();
    let states: Vec<bool> = [-1.0, 0.1, -0.5, -0.9, 0.1]
        .map(|logit| {
            trigger.see(logit, now);
            trigger.is_on()
        })
        .to_vec();
    // The probabilities are .27, .52, .38, .29 and .52.
    assert_eq!(states, [false, true, true, false, true]);
}

#[test]
fn what_a_camera_always_shows_does_not_turn_its_label_on() {
    let now = Instant::now();
    let mut trigger = Trigger::new(LabelConfig { threshold: 0.2, release: 0.1, ..label() });
    // A wall that looks a bit like a dog: a probability of .15 to .25, again and again.
    for i in 0..200 {
        trigger.see(if i % 2 == 0 { -1.7 } else { -1.4 }, now);
    }
    assert!(!trigger.see(-1.1, now), "{:?}", trigger.reading());
    let reading = trigger.reading().unwrap();
    assert!(reading.score > 0.2 && reading.threshold > reading.score, "{reading:?}");
    assert!(trigger.see(1.0, now), "a dog");
    // A dog that stays does not become the usual.
    for _ in 0..500 {
        trigger.see(1.0, now);
    }
    assert!(trigger.is_on());
}

#[test]
fn a_label_has_to_last() {
    let start = Instant::now();
    let mut trigger = Trigger::new(LabelConfig { hold: seconds(10), ..label() });
    assert!(!trigger.see(1.0, start));
    assert!(!trigger.see(-3.0, start + seconds(5)), "a moment is not enough");
    assert!(!trigger.see(1.0, start + seconds(6)));
    assert!(!trigger.see(1.0, start + seconds(15)));
    assert!(trigger.see(1.0, start + seconds(16)));
    assert!(!trigger.see(-3.0, start + seconds(17)));
    assert!(trigger.is_on());
    assert!(trigger.see(-3.0, start + seconds(27)));
}

#[test]
fn numbers_that_are_none_turn_nothing_on_for_ever() {
    let now = Instant::now();
    let mut trigger = Trigger::new(label());
    for logit in [f32::NAN, f32::NEG_INFINITY, -2.0] {
        trigger.see(logit, now);
    }
    assert!(!trigger.is_on());
    for _ in 0..100 {
        trigger.see(-2.0, now);
    }
    assert!(trigger.reading().unwrap().deviation.unwrap().is_finite());
}

fn rule(all: Vec<Condition>) -> RuleConfig {
    RuleConfig { id: "r".to_owned(), all, hold: Duration::ZERO, cooldown: Duration::ZERO, hours: None }
}

fn with_rule(rule: RuleConfig) -> Standing {
    Standing::new(StandingConfig { rules: vec![rule], ..StandingConfig::default() })
}

/// Whether the only rule begins (true), ends (false), or neither.
fn tick(standing: &mut Standing, now: Instant, minute: u16) -> Option<bool> {
    standing.tick(now, minute).first().map(|event| event.begins)
}

#[test]
fn a_rule_begins_when_all_of_it_holds_and_ends_when_not() {
    let now = Instant::now();
    let mut standing = Standing::new(StandingConfig {
        labels: vec![LabelConfig { deviations: 0.0, ..label() }],
        rules: vec![rule(vec![
            Condition::Label { id: "dog".to_owned(), is_on: true },
            Condition::Answer { question: "where".to_owned(), answer: "On the sofa".to_owned() },
            Condition::Caption(vec!["lying down".to_owned(), "sleeps".to_owned()]),
        ])],
        ..StandingConfig::default()
    });
    standing.see(&[3.0], now);
    standing.hear_answer("where", Some("on the sofa"));
    standing.hear_caption("A dog oversleeps.");
    assert_eq!(tick(&mut standing, now, MINUTE), None, "a part of a word is no word");
    standing.hear_caption("A dog is Lying  down, alone.");
    assert_eq!(tick(&mut standing, now, MINUTE), Some(true));
    assert_eq!(tick(&mut standing, now, MINUTE), None, "it is said once");
    standing.hear_answer("where", None);
    let ended = standing.tick(now + seconds(3), MINUTE);
    assert_eq!((ended[0].begins, ended[0].lasted), (false, Some(seconds(3))), "a guess is no answer");
}

#[test]
fn a_rule_has_to_last_and_cools_down() {
    let start = Instant::now();
    let config = RuleConfig {
        hold: seconds(10),
        cooldown: seconds(60),
        ..rule(vec![Condition::Caption(vec!["fire".to_owned()])])
    };
    let mut standing = with_rule(config);
    let mut at = |second, caption: &str| {
        standing.hear_caption(caption);
        tick(&mut standing, start + seconds(second), MINUTE)
    };
    assert_eq!(at(0, "a fire"), None);
    assert_eq!(at(5, "a lamp"), None);
    assert_eq!(at(6, "a fire"), None);
    assert_eq!(at(16, "a fire"), Some(true));
    assert_eq!(at(20, "a lamp"), Some(false));
    assert_eq!(at(21, "a fire"), None);
    assert_eq!(at(60, "a fire"), None, "it lasts, and is too soon");
    assert_eq!(at(80, "a fire"), Some(true));
}

#[test]
fn a_rule_counts_at_its_hours_alone_also_over_midnight() {
    let night = Hours { from: 22 * 60, until: 6 * 60 };
    assert_eq!(
        [21 * 60, 22 * 60, 0, 6 * 60 - 1, 6 * 60].map(|m| night.contains(m)),
        [false, true, true, true, false]
    );
    let now = Instant::now();
    let config = RuleConfig { hours: Some(night), ..rule(vec![Condition::Caption(vec!["man".to_owned()])]) };
    let mut standing = with_rule(config);
    standing.hear_caption("a man");
    assert_eq!(tick(&mut standing, now, MINUTE), None);
    assert_eq!(tick(&mut standing, now, 23 * 60), Some(true));
    assert_eq!(tick(&mut standing, now, MINUTE), Some(false));
}

fn question(id: &str, occasion: Occasion) -> QuestionConfig {
    QuestionConfig { id: id.to_owned(), question: caption::Question::default(), occasion }
}

#[test]
fn questions_are_due_on_change_or_again_and_again() {
    let start = Instant::now();
    let questions = vec![question("a", Occasion::Change), question("b", Occasion::Every(seconds(60)))];
    let mut standing = Standing::new(StandingConfig { questions, ..StandingConfig::default() });
    assert_eq!(standing.due(false, start), [0, 1], "the first picture is new to both");
    assert!(standing.due(false, start + seconds(59)).is_empty());
    assert_eq!(standing.due(true, start + seconds(59)), [0]);
    assert_eq!(standing.due(false, start + seconds(60)), [1]);
}

#[test]
fn things_are_replaced_added_and_taken_away_and_never_too_many() {
    let mut standing = Standing::default();
    for n in 0..STANDING_MAX {
        let id = format!("q{n}");
        standing.change(StandingChange::Question(id.clone(), Some(question(&id, Occasion::Change)))).unwrap();
    }
    let one_more = StandingChange::Question("more".to_owned(), Some(question("more", Occasion::Change)));
    assert_eq!(standing.change(one_more.clone()).unwrap_err(), "more than 32 questions");
    standing.change(StandingChange::Question("q3".to_owned(), None)).unwrap();
    standing.change(one_more).unwrap();
    let every = question("q5", Occasion::Every(seconds(9)));
    standing.change(StandingChange::Question("q5".to_owned(), Some(every.clone()))).unwrap();
    assert_eq!(standing.config().questions.len(), STANDING_MAX);
    assert!(standing.config().questions.contains(&every));
    standing.change(StandingChange::Label("gone".to_owned(), None)).unwrap();
    // The first picture is new to all of them.
    assert_eq!(standing.due(false, Instant::now()).len(), STANDING_MAX);
}
