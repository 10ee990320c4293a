//! The photos of the demonstration; `assets/demo/SOURCES.md` says whose they are.

use crate::source::replay::Photo;

macro_rules! photo {
    ($name:literal) => {
        Photo::Embedded { name: $name, bytes: include_bytes!(concat!("../../assets/demo/", $name)) }
    };
}

/// Every photo, in the order in which it is shown.
pub fn all() -> Vec<Photo> {
    vec![
        photo!("cat.jpg"),
        photo!("astronaut.jpg"),
        photo!("photographer.jpg"),
        photo!("coffee.jpg"),
        photo!("officer.jpg"),
        photo!("boats.jpg"),
        photo!("mountains.jpg"),
    ]
}
