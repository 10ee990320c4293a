//! Logging in: basic and digest (RFC 7617, RFC 7616), whichever the camera asks for.

use http_auth::{PasswordClient, PasswordParams};
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::config::Secret;

/// Who we are, and what the camera asked for last.
pub(super) struct Login {
    user: String,
    password: Secret,
    client: Option<PasswordClient>,
}

impl Login {
    pub(super) fn new(user: String, password: Secret) -> Login {
        Login { user, password, client: None }
    }

    /// Takes the challenge of a refusal; false when there is none that has not been answered already.
    pub(super) fn challenge(&mut self, headers: &HeaderMap) -> Result<bool, String> {
        let mut builder = PasswordClient::builder();
        let mut n = 0;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(value) = value.to_str() else { continue };
            builder = builder.challenges(value);
            n += 1;
        }
        if n == 0 {
            return Ok(false);
        }
        let client = builder.build().map_err(|e| format!("log in: {e}"))?;
        // The same question again is a refusal; a digest's nonce is new each time, so it is asked once more.
        let again =
            matches!((&self.client, &client), (Some(PasswordClient::Basic(_)), PasswordClient::Basic(_)));
        self.client = Some(client);
        Ok(!again)
    }

    /// The header of the next request; none before the first challenge, so that no password goes where none is asked.
    pub(super) fn header(&mut self, url: &Url) -> Option<Result<String, String>> {
        let uri = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let params = PasswordParams {
            username: &self.user,
            password: self.password.reveal(),
            uri: &uri,
            method: "GET",
            body: Some(&[]),
        };
        Some(self.client.as_mut()?.respond(&params).map_err(|e| format!("log in: {e}")))
    }
}
