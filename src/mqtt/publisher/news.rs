//! What the publisher does when cameras come, go or change while the daemon runs.

use super::{LinkError, Publisher};
use crate::message::Happening;
use crate::mqtt::{Post, settings_of};
use crate::standing::StandingConfig;

/// What the daemon tells this task beside results.
#[derive(Debug)]
pub enum News {
    /// Cameras came, went or changed.
    Roster(Vec<RosterChange>),
    Happening(Happening),
}

/// Who has a place from now on.
#[derive(Debug)]
pub struct RosterChange {
    pub camera: usize,
    pub post: Post,
    /// It is another camera than before, or none: what was said of the former is forgotten.
    pub is_other: bool,
}

impl Publisher {
    pub(super) async fn hear(&mut self, news: News) -> Result<(), LinkError> {
        match news {
            News::Happening(happening) => {
                let message = self.shared.daemon_event(&happening);
                self.keep(0, message).await.map(drop)
            }
            News::Roster(changes) => {
                for change in changes {
                    self.rearrange(change).await?;
                }
                // What is said to a new connection: subscriptions, states, descriptions; and what is gone is swept.
                if self.is_connected { self.greet().await } else { Ok(()) }
            }
        }
    }

    async fn rearrange(&mut self, change: RosterChange) -> Result<(), LinkError> {
        let RosterChange { camera, post, is_other } = change;
        if camera < self.shared.cameras.n_places() {
            let former = self.shared.cameras.at(camera);
            let topic = former.config.pictures().map(|(topic, _)| topic.to_owned());
            let is_still_wanted =
                !post.is_gone && topic.as_deref() == post.config.pictures().map(|(topic, _)| topic);
            if let Some(topic) = topic.filter(|_| self.is_connected && !is_still_wanted) {
                self.client.unsubscribe(topic).await?;
            }
            if is_other {
                let (topics, name) = (&self.shared.topics, &former.config.name);
                self.states.retain(|topic, _| topics.aspect_of(topic).is_none_or(|(of, _)| of != name));
                self.captions[camera] = None;
                self.said_online[camera] = false;
            }
        } else {
            self.captions.push(None);
            self.said_online.push(false);
            self.settings.push(settings_of(&post.config));
        }
        if is_other {
            self.settings[camera] = settings_of(&post.config);
            let standing =
                if post.is_gone { StandingConfig::default() } else { post.config.standing.clone() };
            self.shared.replace_standing(camera, standing);
        }
        self.shared.cameras.put(camera, post);
        Ok(())
    }
}
