//! What goes with what in many photos' captions: where wrong answers come from that are not silly.

use std::collections::BTreeMap;

use rand::Rng;

use super::deeds::Who;
use super::facts::Facts;
use super::kinds::{root, wider};

/// Photos that must name a thing before it says anything about others.
const N_MIN: usize = 5;

type Tally = BTreeMap<&'static str, usize>;

/// Counts over the captions of many photos. The photos that are asked about should not be among them.
#[derive(Clone, Debug, Default)]
pub struct Scenes {
    n_naming: Tally,
    n_together: BTreeMap<(&'static str, &'static str), usize>,
    held: BTreeMap<String, Tally>,
    done: BTreeMap<&'static str, Tally>,
    colors: BTreeMap<&'static str, Tally>,
    places: Tally,
}

impl Scenes {
    /// Of groups of captions, each of one photo.
    pub fn of(groups: &[Vec<String>]) -> Scenes {
        let mut scenes = Scenes::default();
        groups.iter().for_each(|group| scenes.add(&Facts::of(group)));
        scenes
    }

    fn add(&mut self, facts: &Facts) {
        let mut named: Vec<&'static str> = facts.named.iter().flat_map(|name| wider(name)).collect();
        named.sort_unstable();
        named.dedup();
        for name in &named {
            *self.n_naming.entry(name).or_default() += 1;
            named.iter().for_each(|other| *self.n_together.entry((name, other)).or_default() += 1);
        }
        for held in &facts.held {
            *self.held.entry(held.deed.clone()).or_default().entry(held.what).or_default() += 1;
        }
        for done in &facts.done {
            *self.done.entry(root(done.who.name)).or_default().entry(done.deed).or_default() += 1;
        }
        for colored in &facts.colors {
            *self.colors.entry(colored.name).or_default().entry(colored.color).or_default() += 1;
        }
        if let Some(stay) = &facts.stay {
            *self.places.entry(stay.phrase).or_default() += 1;
        }
    }

    /// Every known thing and how likely it is beside what the captions name, likeliest first.
    pub fn likely(&self, facts: &Facts) -> Vec<(&'static str, f64)> {
        let known: Vec<(&'static str, usize)> = (facts.named.iter())
            .filter_map(|name| Some((*name, *self.n_naming.get(name)?)))
            .filter(|(_, n)| *n >= N_MIN)
            .collect();
        let share = |name: &'static str| {
            let shares = known.iter().map(|(beside, n)| {
                self.n_together.get(&(*beside, name)).copied().unwrap_or(0) as f64 / *n as f64
            });
            shares.sum::<f64>() / known.len().max(1) as f64
        };
        let mut likely: Vec<(&'static str, f64)> =
            self.n_naming.keys().map(|name| (*name, share(name))).filter(|(_, share)| *share > 0.0).collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1));
        likely
    }

    /// What else such a deed is done to.
    pub fn held(&self, deed: &str) -> Vec<(&'static str, f64)> {
        self.held.get(deed).map(weights).unwrap_or_default()
    }

    /// What else such a being does.
    pub fn done(&self, who: Who) -> Vec<(&'static str, f64)> {
        self.done.get(root(who.name)).map(weights).unwrap_or_default()
    }

    pub fn colors(&self, name: &str) -> Vec<(&'static str, f64)> {
        self.colors.get(name).map(weights).unwrap_or_default()
    }

    pub fn places(&self) -> Vec<(&'static str, f64)> {
        weights(&self.places)
    }

    /// Things of a kind, by how many photos name them.
    pub fn of_kind(&self, kind: &str) -> Vec<(&'static str, f64)> {
        let of_kind = self.n_naming.iter().filter(|(name, _)| **name != kind && root(name) == kind);
        of_kind.map(|(name, n)| (*name, *n as f64)).collect()
    }
}

fn weights(tally: &Tally) -> Vec<(&'static str, f64)> {
    tally.iter().map(|(name, n)| (*name, *n as f64)).collect()
}

/// Up to `n` different ones, each drawn with a chance in proportion to its weight.
pub fn draw(mut pool: Vec<(&'static str, f64)>, n: usize, rng: &mut impl Rng) -> Vec<&'static str> {
    let mut drawn = Vec::with_capacity(n);
    while drawn.len() < n && !pool.is_empty() {
        let mut left =
            rng.random_range(0.0..pool.iter().map(|(_, weight)| weight).sum::<f64>().max(f64::MIN_POSITIVE));
        let at = pool.iter().position(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.push(pool.remove(at.unwrap_or(0)).0);
    }
    drawn
}
