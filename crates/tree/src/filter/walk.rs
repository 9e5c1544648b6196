//! Going through an index of filters along a path, and below it.

use super::{FilterIndex, Node, is_open};
use crate::Path;

/// A place in the index: filters that begin with the same levels.
#[derive(Debug)]
pub(crate) struct Place<'a, Id> {
    node: &'a Node<Id>,
    /// Segments up to here.
    pub(crate) depth: usize,
    /// Whether the levels up to here have no wildcard.
    pub(crate) literal: bool,
}

/// What an index has along a path.
#[derive(Debug)]
pub(crate) struct Walked<'a, Id> {
    /// The places at the path and above it, but for the index's own root.
    places: Vec<Place<'a, Id>>,
    /// The index's root, for a path below which its wildcards count.
    root: Option<&'a Node<Id>>,
    depth: usize,
}

impl<Id> Clone for Place<'_, Id> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Id> Copy for Place<'_, Id> {}

impl<Id> FilterIndex<Id> {
    /// Goes along a path.
    pub(crate) fn walk(&self, path: &Path) -> Walked<'_, Id> {
        let start = Place {
            node: &self.root,
            depth: 0,
            literal: true,
        };
        let mut walked = Walked {
            places: Vec::new(),
            root: path.first().is_some_and(is_open).then_some(&self.root),
            depth: 0,
        };
        let mut now = vec![start];
        for segment in path.segments() {
            now = now.iter().flat_map(|place| place.child(segment)).collect();
            walked.places.extend(&now);
            walked.depth += 1;
        }
        walked
    }
}

impl<'a, Id> Place<'a, Id> {
    /// The places one segment on.
    pub(crate) fn child(self, segment: &str) -> impl Iterator<Item = Self> + use<'a, Id> {
        let literal = self.node.literals.get(segment).map(|node| Self {
            node,
            depth: self.depth + 1,
            literal: self.literal,
        });
        let wild = self.depth > 0 || is_open(segment);
        let one = self.node.one.as_deref().filter(|_| wild).map(|node| Self {
            node,
            depth: self.depth + 1,
            literal: false,
        });
        literal.into_iter().chain(one)
    }

    /// The literal segments that filters go on with.
    pub(crate) fn literals(self) -> impl Iterator<Item = (&'a str, Self)> {
        self.node.literals.iter().map(move |(segment, node)| {
            let place = Self {
                node,
                depth: self.depth + 1,
                literal: self.literal,
            };
            (&**segment, place)
        })
    }

    /// Whose filters end here.
    pub(crate) fn here(self) -> &'a [Id] {
        &self.node.here
    }

    /// Whose filters go on with `#`.
    pub(crate) fn all(self) -> &'a [Id] {
        &self.node.all
    }

    /// Whether filters go on with `+`.
    pub(crate) fn has_one(self) -> bool {
        self.node.one.is_some()
    }

    /// Whether filters go on with a segment of their own, or `+`: whether any but those with `#` match below.
    pub(crate) fn goes_on(self) -> bool {
        self.node.one.is_some() || !self.node.literals.is_empty()
    }
}

impl<'a, Id> Walked<'a, Id> {
    /// The places at exactly the path.
    pub(crate) fn at(&self) -> impl Iterator<Item = Place<'a, Id>> {
        let depth = self.depth;
        self.places
            .iter()
            .copied()
            .filter(move |place| place.depth == depth)
    }

    /// The places strictly above the path.
    pub(crate) fn above(&self) -> impl Iterator<Item = Place<'a, Id>> {
        let depth = self.depth;
        self.places
            .iter()
            .copied()
            .filter(move |place| place.depth < depth)
    }

    /// Whose filters with `#` match the path, and all below it.
    pub(crate) fn open(&self) -> impl Iterator<Item = &'a Id> {
        let places = self.places.iter().map(|place| place.node);
        self.root
            .into_iter()
            .chain(places)
            .flat_map(|node| &node.all)
    }

    /// Whose filters match the path.
    pub(crate) fn matching(&self) -> impl Iterator<Item = &'a Id> {
        self.open().chain(self.at().flat_map(Place::here))
    }

    /// Whether some filter matches the path, something above it or something below it.
    pub(crate) fn concerns(&self) -> bool {
        self.open().next().is_some()
            || self.places.iter().any(|place| !place.node.here.is_empty())
            || self.at().any(Place::goes_on)
    }
}
