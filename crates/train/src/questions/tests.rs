//! The rules on invented captions, and the set that they make of the data where it is there.

use std::path::Path;

use super::*;

fn group(captions: &[&str]) -> Vec<String> {
    captions.iter().map(|caption| (*caption).to_owned()).collect()
}

/// Scenes from which a handful of wrong answers can be drawn.
fn scenes() -> Scenes {
    let mut groups = Vec::new();
    let things = ["a ball", "a kite", "a guitar", "a bag", "an umbrella", "a newspaper", "a camera"];
    for thing in things.iter().chain(&things) {
        groups.push(group(&[
            &format!("A man is holding {thing} on the beach"),
            &format!("A man with {thing}"),
        ]));
        groups.push(group(&[&format!("A dog beside {thing}"), "A dog runs in the snow"]));
    }
    for deed in ["running", "sitting", "climbing", "sleeping", "singing", "rowing", "painting", "running"] {
        for shirt in ["red", "blue"] {
            let caption = format!("A man in a {shirt} shirt is {deed} on the street");
            groups.push(group(&[&caption, &format!("A man {deed} on the street")]));
        }
    }
    for place in ["in the snow", "in a pool", "in the kitchen", "on a stage", "in a field"] {
        groups.push(group(&[&format!("A child plays {place}"), &format!("A child is {place}")]));
    }
    for animal in ["horse", "cat", "cow", "bird", "sheep"] {
        let caption = format!("A {animal} and nothing else");
        groups.push(group(&[&caption, &caption, &caption]));
    }
    Scenes::of(&groups)
}

fn asked(captions: &[&str]) -> Vec<Question> {
    of(&group(captions), &scenes(), &mut step_rng(1, 0))
}

/// The answer to a question, if it is asked.
fn answer(captions: &[&str], question: &str) -> Option<String> {
    asked(captions).into_iter().find(|asked| asked.question == question).map(|asked| asked.answer)
}

fn assert_answer(captions: &[&str], question: &str, expected: Option<&str>) {
    assert_eq!(answer(captions, question).as_deref(), expected, "{question} of {captions:?}");
}

#[test]
fn what_two_captions_name_is_there() {
    let captions = ["A puppy runs", "The dog runs on grass", "A brown dog with a ball"];
    assert_answer(&captions, "Is there a dog?", Some("yes"));
    assert_answer(&captions, "Is there an animal?", Some("yes"));
    assert_answer(&captions, "Is there a ball?", None);
}

#[test]
fn a_no_is_about_what_fits_the_scene_and_stands_in_no_caption_under_any_name() {
    let captions = ["A guy on the beach", "A man walks", "A man by the sea"];
    let all = asked(&captions);
    let no: Vec<&Question> =
        all.iter().filter(|q| q.answer == "no" && q.question.starts_with("Is there")).collect();
    assert!(!no.is_empty(), "{all:?}");
    for question in no {
        assert!(!["man", "person", "boy"].contains(&question.about.as_str()), "{question:?}");
    }
    // "A person" may be a man.
    assert_ne!(answer(&["A person walks", "Someone walks"], "Is there a man?").as_deref(), Some("no"));
}

#[test]
fn captions_that_agree_give_a_number() {
    for (captions, question, expected) in [
        (&["Two dogs run", "Dogs play", "two brown dogs"][..], "How many dogs are there?", Some("two")),
        (&["A dog runs", "a brown dog", "A puppy plays"], "How many dogs are there?", Some("one")),
        (&["A dog and another dog", "Two dogs"], "How many dogs are there?", Some("two")),
        (&["Two dogs, one dog bites", "Two dogs", "dogs"], "How many dogs are there?", Some("two")),
        (
            &["A man and two women", "Three people", "three people sit"],
            "How many people are there?",
            Some("three"),
        ),
        (&["Two dogs run", "Three dogs run", "dogs"], "How many dogs are there?", None),
        (&["A dog runs", "a dog", "a dog and a puppy"], "How many dogs are there?", None),
        (&["A group of people", "Two people", "two men"], "How many people are there?", None),
        (&["A group of people", "Four people", "four men"], "How many people are there?", Some("four")),
        (&["a couple of cats", "Two cats"], "How many cats are there?", Some("two")),
        // The man may be one of the two.
        (&["Two people", "A man", "A man sits", "a man stands"], "How many men are there?", None),
    ] {
        assert_answer(captions, question, expected);
    }
}

#[test]
fn a_color_is_asked_for_unless_a_caption_denies_it() {
    for (captions, question, expected) in [
        (&["A man in a red shirt", "A man"][..], "What color is the man's shirt?", Some("red")),
        (&["A man in a red shirt", "A man in a blue shirt"], "What color is the man's shirt?", None),
        (&["A man in a red and white uniform"], "What color is the man's uniform?", None),
        (&["A black and white dog", "a black dog"], "What color is the dog?", None),
        (&["A tan dog", "A brown dog", "A dog"], "What color is the dog?", Some("brown")),
        (&["A tan dog", "A black dog"], "What color is the dog?", None),
        (&["A brown dog and another dog", "Two dogs"], "What color is the dog?", None),
        (&["Two black dogs", "two dogs"], "What color are the dogs?", Some("black")),
        (&["A boy in blue shorts", "A boy runs"], "What color are the boy's shorts?", Some("blue")),
        (&["A grey car", "a car"], "What color is the car?", Some("gray")),
        (&["A man in a red shirt and a man in a hat"], "What color is the man's shirt?", None),
    ] {
        assert_answer(captions, question, expected);
    }
}

#[test]
fn objects_places_and_deeds_are_read_off_the_order_of_words() {
    let captions =
        ["A man in a hat is holding a red kite on a stage", "A man stands on the stage with a kite"];
    assert_answer(&captions, "What is the man holding?", Some("kite"));
    assert_answer(&captions, "Where is the man?", Some("on a stage"));
    let denied = ["A man is holding a kite", "A man holds a guitar"];
    assert_answer(&denied, "What is the man holding?", None);
    let carried = ["A dog runs with a kite in its mouth", "The dog is running"];
    assert_answer(&carried, "What is the dog doing?", None);
    assert_answer(&["A man is running", "The man runs by a dog"], "What is the man doing?", Some("running"));
    assert_answer(&["A man is running"; 2], "Is the man running?", Some("yes"));
    assert_answer(&["A dog sits", "A dog", "a brown dog"], "What animal is there?", Some("dog"));
    assert_answer(&["A dog and a cat", "A dog", "a dog"], "What animal is there?", None);
}

#[test]
fn wrong_answers_stand_in_no_caption() {
    let captions = ["A man is holding a kite beside a guitar", "A man and a bag"];
    let question =
        asked(&captions).into_iter().find(|asked| asked.question == "What is the man holding?").unwrap();
    assert!(question.choices.len() >= 4 && question.choices.contains(&"kite".to_owned()), "{question:?}");
    for named in ["guitar", "bag"] {
        assert!(!question.choices.contains(&named.to_owned()), "{question:?}");
    }
}

#[test]
fn yes_and_no_are_equally_frequent_for_each_thing_and_no_answer_is_too_frequent() {
    let question = |kind, about: &str, answer: &str| Asked {
        photo_idx: 0,
        question: Question {
            kind,
            question: String::new(),
            answer: answer.to_owned(),
            choices: Vec::new(),
            about: about.to_owned(),
        },
        order: 0,
    };
    let mut all = Vec::new();
    for idx in 0..40 {
        all.push(question(Kind::YesNo, "dog", "yes"));
        all.push(question(Kind::YesNo, "cat", if idx % 2 == 0 { "yes" } else { "no" }));
        all.push(question(Kind::Count, "dog", if idx % 4 == 0 { "two" } else { "one" }));
    }
    let kept = balance::balanced(all, 2000, &mut step_rng(1, 0));
    let n = |kind, answer: &str| {
        kept.iter().filter(|kept| kept.question.kind == kind && kept.question.answer == answer).count()
    };
    assert_eq!((n(Kind::YesNo, "yes"), n(Kind::YesNo, "no")), (20, 20));
    assert!(kept.iter().all(|kept| kept.question.kind != Kind::YesNo || kept.question.about == "cat"));
    assert_eq!((n(Kind::Count, "one"), n(Kind::Count, "two")), (10, 10));
}

#[test]
fn one_seed_gives_one_set_and_another_seed_another() {
    let captions = group(&["A man is holding a kite", "A man in a red shirt on the street"]);
    let with = |seed| of(&captions, &scenes(), &mut step_rng(seed, 0));
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn the_dev_photos_give_500_questions_of_each_main_kind() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.join("pairs.jsonl").is_file() {
        return crate::report("skipped: ../shared/data is not there").unwrap();
    }
    let args = QuestionsArgs {
        data,
        split: "dev".to_owned(),
        source: "flickr8k".to_owned(),
        out: PathBuf::new(),
        seed: 1,
        n_per_kind: 700,
        limit: None,
    };
    let rows = rows(&args).unwrap();
    for kind in Kind::ALL {
        let tally = tally(&rows, kind);
        let n: usize = tally.iter().map(|(_, n)| n).sum();
        let needed = if matches!(kind, Kind::Place | Kind::Activity) { 300 } else { 500 };
        assert!(n >= needed, "{kind:?}: {n}");
        assert!(tally[0].1 as f64 <= balance::share_max(kind) * n as f64, "{kind:?}: {:?}", tally[0]);
    }
    assert_eq!(tally(&rows, Kind::YesNo)[0].1, tally(&rows, Kind::YesNo)[1].1);
    let offered = |row: &&QuestionRow| row.choices.is_empty() || row.choices.contains(&row.answer);
    assert_eq!(rows.iter().filter(offered).count(), rows.len());
}
