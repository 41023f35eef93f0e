//! The path prefixes of one host: a tree of segments.

use std::collections::HashMap;

/// Path prefixes of whole segments, each with the index of its entry.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    entry: Option<u32>,
    #[expect(clippy::box_collection, reason = "most prefixes have nothing below them, and there may be very many")]
    children: Option<Box<HashMap<Box<str>, Node>>>,
}

impl Prefixes {
    /// Registers a prefix; the index that already stands there is the error.
    pub(super) fn insert(&mut self, path: &str, entry: u32) -> Result<(), u32> {
        let segments = path.trim_end_matches('/');
        let mut node = &mut self.root;
        for segment in segments.split('/').skip(1) {
            node = node.children.get_or_insert_default().entry(Box::from(segment)).or_default();
        }
        match node.entry {
            Some(first) => Err(first),
            None => {
                node.entry = Some(entry);
                Ok(())
            }
        }
    }

    /// The entry of the longest prefix of `path`, and that prefix's length (0 for `/`).
    ///
    /// The walk ends at the first segment that no prefix shares, so thousands of slashes cost no more than a few.
    pub(super) fn find(&self, path: &str) -> Option<(u32, usize)> {
        let mut rest = Some(path.strip_prefix('/')?);
        let mut node = &self.root;
        let mut length = 0;
        let mut longest = node.entry.map(|entry| (entry, 0));
        while let Some(segments) = rest
            && let Some(children) = &node.children
        {
            let (segment, further) = match segments.split_once('/') {
                Some((segment, further)) => (segment, Some(further)),
                None => (segments, None),
            };
            let Some(child) = children.get(segment) else { break };
            node = child;
            rest = further;
            length += 1 + segment.len();
            longest = node.entry.map(|entry| (entry, length)).or(longest);
        }
        longest
    }
}
