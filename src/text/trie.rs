//! A trie over the bytes of the vocabulary's pieces, in three flat arrays.

/// No piece ends here.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The node's edges are `first_edge .. first_edge + edges`; the child of edge `e` is node `e + 1`.
    first_edge: u32,
    edges: u32,
    /// Id of the piece that ends here.
    id: u32,
}

/// Nodes in breadth-first order: a node's children follow one another, so an edge needs no target.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Byte of each edge, ascending within a node.
    labels: Vec<u8>,
    /// The root's children by byte, 0 for none.
    roots: Vec<u32>,
}

impl Trie {
    /// Builds the trie of the pieces whose ids are their positions. Of equal pieces the last counts; the empty one is never found.
    pub(super) fn new<'a>(pieces: impl Iterator<Item = &'a str>) -> Trie {
        let mut sorted: Vec<(&[u8], u32)> = pieces.zip(0..).map(|(piece, id)| (piece.as_bytes(), id)).collect();
        sorted.sort_unstable();
        let mut nodes = vec![Node { first_edge: 0, edges: 0, id: NONE }];
        let mut labels = Vec::new();
        // Breadth first: each node stands for the range of sorted pieces that share its prefix of `depth` bytes.
        let mut level = vec![(0usize, 0usize..sorted.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for (node, mut range) in level {
                while range.start < range.end && sorted[range.start].0.len() == depth {
                    if depth > 0 {
                        nodes[node].id = sorted[range.start].1;
                    }
                    range.start += 1;
                }
                nodes[node].first_edge = labels.len() as u32;
                while range.start < range.end {
                    let byte = sorted[range.start].0[depth];
                    let len = sorted[range.clone()].iter().take_while(|(piece, _)| piece[depth] == byte).count();
                    labels.push(byte);
                    next.push((nodes.len(), range.start..range.start + len));
                    nodes.push(Node { first_edge: 0, edges: 0, id: NONE });
                    range.start += len;
                }
                nodes[node].edges = labels.len() as u32 - nodes[node].first_edge;
            }
            level = next;
            depth += 1;
        }
        let mut trie = Trie { nodes, labels, roots: Vec::new() };
        trie.roots = (0..=255).map(|byte| trie.search(0, byte).unwrap_or(0)).collect();
        trie
    }

    fn search(&self, node: u32, byte: u8) -> Option<u32> {
        let Node { first_edge, edges, .. } = self.nodes[node as usize];
        let labels = &self.labels[first_edge as usize..][..edges as usize];
        // Most nodes have one or two edges; the few with many (first bytes of CJK) are searched by halves.
        let at = if labels.len() <= 8 {
            labels.iter().position(|&label| label == byte)
        } else {
            labels.binary_search(&byte).ok()
        };
        at.map(|at| first_edge + at as u32 + 1)
    }

    /// Calls `f(length, id)` for every piece that is a prefix of `bytes`, shortest first.
    #[inline]
    pub(super) fn prefixes(&self, bytes: &[u8], mut f: impl FnMut(usize, u32)) {
        let Some((&first, rest)) = bytes.split_first() else { return };
        let mut node = self.roots[usize::from(first)];
        if node == 0 {
            return;
        }
        let mut length = 1;
        loop {
            let id = self.nodes[node as usize].id;
            if id != NONE {
                f(length, id);
            }
            let Some(child) = rest.get(length - 1).and_then(|&byte| self.search(node, byte)) else { return };
            node = child;
            length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_all_prefixes_shortest_first() {
        let trie = Trie::new(["b", "ab", "", "a", "abc", "ab", "苹果", "苹"].into_iter());
        let found = |text: &str| {
            let mut found = Vec::new();
            trie.prefixes(text.as_bytes(), |length, id| found.push((length, id)));
            found
        };
        assert_eq!(found("abcd"), [(1, 3), (2, 5), (3, 4)]);
        assert_eq!(found("苹果汁"), [(3, 7), (6, 6)]);
        assert_eq!(found("苹"), [(3, 7)]);
        assert!(found("x").is_empty() && found("").is_empty());
        assert!(Trie::new(std::iter::empty()).nodes.len() == 1);
    }
}
