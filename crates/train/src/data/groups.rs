//! Union-find over numbered items: the caller joins the pairs that share a text or a group's name, and gets the groups that result.

use std::collections::HashMap;

/// Disjoint sets of items; [`Groups::join`] merges two of them.
#[derive(Debug)]
pub(crate) struct Groups {
    parent: Vec<u32>,
}

impl Groups {
    /// Begins with every item in a set of its own.
    pub(crate) fn new(items: usize) -> Groups {
        Groups { parent: (0..items as u32).collect() }
    }

    /// The smallest item of the set that `item` is in.
    pub(crate) fn root(&mut self, item: u32) -> u32 {
        let mut root = item;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        let mut at = item;
        while self.parent[at as usize] != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// Merges the sets of `a` and `b`.
    pub(crate) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    /// The number of each item's set, counted from 0 in the order of their first items, and how many sets there are.
    pub(crate) fn numbered(mut self) -> (Vec<u32>, usize) {
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let items = self.parent.len() as u32;
        let of = |item: u32| {
            let root = self.root(item);
            let next = numbers.len() as u32;
            *numbers.entry(root).or_insert(next)
        };
        let all = (0..items).map(of).collect();
        (all, numbers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_items_have_one_number() {
        let mut groups = Groups::new(6);
        groups.join(4, 2);
        groups.join(5, 4);
        groups.join(1, 0);
        assert_eq!(groups.numbered(), (vec![0, 0, 1, 2, 1, 1], 3));
        assert_eq!(Groups::new(0).numbered(), (vec![], 0));
    }
}
