//! Username and password that stand in an address. Nothing that is printed may hold them, so they are taken out of it.

use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::config::Secret;

/// Takes them out of `url`; none when there is no username.
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
