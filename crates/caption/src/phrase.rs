//! English questions: what kind of answer they ask for, and the statement that an answer makes of
//! them. Word lists and prefixes, no parser: the statement is read by a text encoder, not by people.

pub(crate) const COLORS: [&str; 11] =
    ["red", "blue", "green", "yellow", "black", "white", "brown", "orange", "pink", "purple", "gray"];
pub(crate) const NUMBERS: [&str; 7] = ["zero", "one", "two", "three", "four", "five", "many"];

/// The kind of answer that a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Also a statement, which is judged.
    YesNo,
    Color,
    Number,
    Open,
}

const AUXILIARIES: [&str; 22] = [
    "is", "are", "was", "were", "am", "do", "does", "did", "can", "could", "has", "have", "had", "will",
    "would", "should", "isn't", "aren't", "wasn't", "weren't", "doesn't", "don't",
];
const QUESTION_WORDS: [&str; 9] = ["what", "which", "who", "whose", "whom", "where", "when", "why", "how"];

pub(crate) fn kind(question: &str) -> Kind {
    let words = words(question);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["what" | "which", "color" | "colour" | "colors" | "colours", ..] => Kind::Color,
        ["how", "many", ..] | ["what", "number", ..] => Kind::Number,
        [first, ..] if AUXILIARIES.contains(first) => Kind::YesNo,
        words if words.iter().any(|word| QUESTION_WORDS.contains(word)) && question.contains('?') => {
            Kind::Open
        }
        [first, ..] if QUESTION_WORDS.contains(first) => Kind::Open,
        // "The bench is left of the train.": true or not?
        _ => Kind::YesNo,
    }
}

/// The statement that `answer` makes of `question`; without an answer, what a yes would assert.
pub(crate) fn statement(question: &str, answer: &str) -> String {
    let words = words(question);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = answer.trim().to_lowercase();
    match &words[..] {
        ["is" | "are" | "was" | "were", "there", rest @ ..] if answer.is_empty() => rest.join(" "),
        [first, rest @ ..] if AUXILIARIES.contains(first) => sentence(rest, &answer),
        ["what" | "which", "color" | "colour", "is" | "are" | "was" | "were", rest @ ..]
        | ["what" | "who" | "which" | "where", "is" | "are" | "was" | "were", rest @ ..] => {
            format!("{} is {answer}", rest.join(" "))
        }
        ["how", "many", noun, ..] => format!("{answer} {noun}"),
        words => sentence(words, &answer),
    }
}

fn sentence(words: &[&str], answer: &str) -> String {
    let mut sentence = words.join(" ");
    if !answer.is_empty() {
        sentence.push(' ');
        sentence.push_str(answer);
    }
    sentence
}

/// Lower-case words without the punctuation around them.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_ask_for_the_answers_that_they_ask_for() {
        for (question, expected) in [
            ("Is there a dog?", Kind::YesNo),
            ("are the people outside", Kind::YesNo),
            ("Isn't it raining?", Kind::YesNo),
            ("The bench is at the right side of the train.", Kind::YesNo),
            ("What color is the car?", Kind::Color),
            ("Which colour are the walls?", Kind::Color),
            ("How many dogs are there?", Kind::Number),
            ("What is the man holding?", Kind::Open),
            ("In which room is the cat?", Kind::Open),
            ("where is the ball", Kind::Open),
            ("?", Kind::YesNo),
        ] {
            assert_eq!(kind(question), expected, "{question}");
        }
    }

    #[test]
    fn answers_make_statements() {
        for (question, answer, expected) in [
            ("Is there a dog on the sofa?", "", "a dog on the sofa"),
            ("Is the dog asleep?", "", "the dog asleep"),
            ("The bench is left of the train.", "", "the bench is left of the train"),
            ("What color is the car?", "Red", "the car is red"),
            ("How many dogs are there?", "two", "two dogs"),
            ("What is the man holding?", "a cup", "the man holding is a cup"),
            ("Why?", "rain", "why rain"),
        ] {
            assert_eq!(statement(question, answer), expected);
        }
    }
}
