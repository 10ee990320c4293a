//! Secrets that stand in addresses. Nothing that is printed may hold them: username and password are taken out, and what
//! stands in a path or a query is left out where it is shown.

use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::config::Secret;

/// Values with such a key in a path or a query are secret: many cameras want the password there.
const SECRET_KEYS: [&str; 6] = ["pass", "pwd", "token", "auth", "secret", "key"];
/// What stands in place of a secret.
const HIDDEN: &str = "…";
/// A shorter word is in too much that is no secret.
const SECRET_CHARS_LEAST: usize = 3;

/// Takes username and password out of `url`; none when there is no username.
///
/// # Errors
/// When an address of this kind cannot hold a username: it has no host.
pub(crate) fn take_credentials(url: &mut Url) -> Result<Option<(String, Secret)>, ()> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let password = Secret::new(decoded(url.password().unwrap_or_default()));
    let found = (!url.username().is_empty()).then(|| (decoded(url.username()), password));
    url.set_username("")?;
    url.set_password(None)?;
    Ok(found)
}

/// `text` without what stands between `//` and `@` in its words, and without the values behind secret keys.
pub(crate) fn masked(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(|word| rewritten(word, &mut Vec::new())).collect()
}

/// The secrets that [`masked`] would leave out of the words of a command, as they stand there and decoded.
pub(crate) fn secrets_of(words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for word in words.iter().flat_map(|words| words.split_whitespace()) {
        rewritten(word, &mut found);
    }
    // The word after the scheme of a header such as `Authorization: Bearer x`.
    for line in words {
        let mut words = line.split_whitespace();
        if words.any(|word| matches!(word.to_ascii_lowercase().as_str(), "bearer" | "basic")) {
            found.extend(words.next().map(str::to_owned));
        }
    }
    let decoded = |text: &String| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut all: Vec<String> = found.iter().map(decoded).chain(found.clone()).collect();
    all.retain(|secret| secret.chars().count() >= SECRET_CHARS_LEAST);
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// `text` with each of `secrets`, and what looks like one, left out.
pub(crate) fn without(text: &str, secrets: &[String]) -> String {
    let hide = |text: String, secret: &String| text.replace(secret.as_str(), HIDDEN);
    masked(&secrets.iter().fold(text.to_owned(), hide))
}

/// A word without its secrets, which are added to `found`.
fn rewritten(word: &str, found: &mut Vec<String>) -> String {
    let userinfo = word.split_once("//").and_then(|(scheme, rest)| {
        let (userinfo, host) = rest.rsplit_once('@')?;
        Some((scheme, userinfo, host))
    });
    let (start, rest) = match userinfo {
        Some((scheme, userinfo, host)) => {
            found.extend(userinfo.split_once(':').map(|(_, password)| password.to_owned()));
            (format!("{scheme}//{HIDDEN}@"), host)
        }
        None => (String::new(), word),
    };
    // A value in a query may have slashes, one in a path may not.
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let mut values = |part: &str, ends: &[char]| -> String {
        part.split_inclusive(ends).flat_map(pairs).map(|pair| hidden(&pair, found)).collect()
    };
    let path = values(path, &['/', '&', ';']);
    format!("{start}{path}{}", values(query, &['&', ';']))
}

/// A piece of a path or a query at each `_` behind which another key stands.
fn pairs(piece: &str) -> Vec<String> {
    let mut pairs: Vec<String> = Vec::new();
    for token in piece.split_inclusive('_') {
        match pairs.last_mut() {
            Some(last) if !(last.contains('=') && opens_pair(token)) => last.push_str(token),
            _ => pairs.push(token.to_owned()),
        }
    }
    pairs
}

/// Whether it begins with a key, and is not the end of a value in Base64.
fn opens_pair(token: &str) -> bool {
    token.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty()
            && key.chars().all(char::is_alphanumeric)
            && !value.is_empty()
            && !value.starts_with('=')
    })
}

fn hidden(pair: &str, found: &mut Vec<String>) -> String {
    let Some((key, value)) = pair.split_once('=') else { return pair.to_owned() };
    if !SECRET_KEYS.iter().any(|secret| key.to_lowercase().contains(secret)) {
        return pair.to_owned();
    }
    let secret = value.trim_end_matches(|c: char| "/?&;_".contains(c) || c.is_whitespace());
    let end = value.strip_prefix(secret).unwrap_or_default();
    if secret.is_empty() {
        return pair.to_owned();
    }
    found.push(secret.to_owned());
    format!("{key}={HIDDEN}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_addresses_are_left_out_and_the_rest_is_not() {
        for (text, shown) in [
            ("rtsp://me:x@cam/live is not there", "rtsp://…@cam/live is not there"),
            ("http://cam/a?token=ab_c/d?e==&n=1", "http://cam/a?token=…&n=1"),
            ("http://cam/token=abc/live.jpg", "http://cam/token=…/live.jpg"),
            ("user=admin_password=hunter2_channel=1", "user=admin_password=…_channel=1"),
            ("?api_key=abc", "?api_key=…"),
            ("/dev/video0 = 7?", "/dev/video0 = 7?"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn what_a_command_holds_is_left_out_of_what_it_says() {
        let command = ["curl", "-H", "Authorization: Bearer tok-1", "http://me:p%40ss@cam/x?pwd=hunter2"]
            .map(str::to_owned);
        let said = "tok-1 of me with p@ss (p%40ss) and 'hunter2' refused";
        assert_eq!(without(said, &secrets_of(&command)), "… of me with … (…) and '…' refused");
    }
}
