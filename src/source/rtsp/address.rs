//! The URL of a camera, in a form that can be shown: without credentials.

use std::fmt;

use url::Url;

use crate::config::Secret;
use crate::source::credentials::{masked, take_credentials};

/// An RTSP URL without a username and a password. Shown with the secrets of its path and query left out.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    shown: String,
}

impl Address {
    /// Takes a URL apart; credentials in it come out beside it.
    ///
    /// # Errors
    /// What is wrong with it. The message does not repeat the URL.
    pub fn parse(text: &str) -> Result<(Address, Option<(String, Secret)>), String> {
        let mut url = Url::parse(text).map_err(|e| format!("is not a URL: {e}"))?;
        if url.scheme() != "rtsp" {
            return Err(format!("must begin with rtsp:// (got {:?})", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("has no host".to_owned());
        }
        let credentials = take_credentials(&mut url).map_err(|()| "has no host".to_owned())?;
        let shown = masked(url.as_str());
        Ok((Address { url, shown }, credentials))
    }

    /// For the one place that connects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Another's text about the camera, fit to be shown: one line, not long, without the secrets of the URL.
    pub(super) fn clean(&self, text: &str) -> String {
        let line = text.split("\n\n").next().unwrap_or_default();
        let line: String = line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        masked(&line.replace(self.url.as_str(), &self.shown))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_out_of_the_url_decoded() {
        let (address, credentials) = Address::parse("rtsp://ad%40min:p%23ss@cam:8554/live?ch=1").unwrap();
        assert_eq!(address.url().as_str(), "rtsp://cam:8554/live?ch=1");
        assert_eq!(format!("{address} {address:?}"), "rtsp://cam:8554/live?ch=1 rtsp://cam:8554/live?ch=1");
        assert_eq!(credentials, Some(("ad@min".to_owned(), Secret::new("p#ss".to_owned()))));
        assert_eq!(Address::parse("rtsp://cam/live").unwrap().1, None);
    }

    #[test]
    fn secrets_of_path_and_query_are_kept_and_not_shown() {
        for url in [
            "rtsp://cam/user=admin&password=hunter2&channel=1&stream=0.sdp",
            "rtsp://cam/live?channel=1&user=admin&pwd=hunter2",
            "rtsp://cam/user=admin_password=hunter2_channel=1",
        ] {
            let (address, _) = Address::parse(url).unwrap();
            assert_eq!(address.url().as_str(), url);
            assert!(!address.to_string().contains("hunter2"), "{address}");
            assert!(address.to_string().contains("channel=1"), "{address}");
            let cleaned = address.clean(&format!("cannot open {url}\n  twice\n\nconn: {url}"));
            assert_eq!(cleaned, format!("cannot open {address} twice"));
        }
    }

    #[test]
    fn refuses_what_is_no_rtsp_url_without_repeating_it() {
        for url in [
            "http://u:hunter2@cam/",
            "rtsp:cam",
            "cam:554/hunter2",
            "rtsp:///hunter2",
            "rtsp://u:hunter2@:x/",
        ] {
            let e = Address::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(!e.contains("hunter2"), "{e}");
        }
    }
}
