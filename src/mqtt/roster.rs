//! The cameras that the tasks at the broker know, by their place. A place is never given up: what is still on its way
//! about a camera that was taken away finds its name there.

use std::sync::{Arc, PoisonError, RwLock};

use super::payload::Producer;
use crate::config::CameraConfig;

/// A camera and what looks at it.
#[derive(Debug)]
pub struct Post {
    pub config: CameraConfig,
    pub producer: Producer,
    /// It is not in the configuration any more.
    pub is_gone: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Roster(RwLock<Vec<Arc<Post>>>);

impl Roster {
    pub(super) fn new(posts: impl IntoIterator<Item = Post>) -> Roster {
        Roster(RwLock::new(posts.into_iter().map(Arc::new).collect()))
    }

    /// How many places there are, those of former cameras among them.
    pub(super) fn n_places(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whoever has this place, or had it last.
    pub(super) fn at(&self, camera: usize) -> Arc<Post> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)[camera])
    }

    /// The cameras that there are, with their places.
    pub(super) fn present(&self) -> Vec<(usize, Arc<Post>)> {
        let posts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        posts
            .iter()
            .enumerate()
            .filter(|(_, post)| !post.is_gone)
            .map(|(i, post)| (i, Arc::clone(post)))
            .collect()
    }

    /// Gives a place to a camera: one that was taken before, or the next.
    pub(super) fn put(&self, camera: usize, post: Post) {
        let mut posts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match posts.get_mut(camera) {
            Some(former) => *former = Arc::new(post),
            None => posts.push(Arc::new(post)),
        }
    }
}
