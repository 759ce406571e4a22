//! Which part of the page file an address shows.

use crate::{Backing, Image, Mapping};

/// A piece of address space that comes from the page file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    /// In the page file.
    offset: u64,
    /// There is no other file below: given back to the kernel, it is zeroes.
    anonymous: bool,
}

impl Piece {
    /// The part between two addresses.
    fn part(self, start: u64, end: u64) -> Option<Self> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        (start < end).then(|| Self {
            start,
            end,
            offset: self.offset + (start - self.start),
            anonymous: self.anonymous,
        })
    }
}

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The page file from this offset.
    Pages(u64),
    /// Memory without content.
    Nothing,
}

/// The pieces of one address space, ascending.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<Piece>);

impl Map {
    pub fn new(image: &Image) -> Self {
        Self::of(&image.mappings)
    }

    pub fn of(mappings: &[Mapping]) -> Self {
        let pieces = mappings.iter().flat_map(|mapping| {
            let anonymous = mapping.backing == Backing::Anonymous;
            mapping.segments.iter().map(move |segment| Piece {
                start: segment.start,
                end: segment.start + segment.len,
                offset: segment.offset,
                anonymous,
            })
        });
        Self(pieces.collect())
    }

    pub fn find(&self, address: u64) -> Found {
        let after = self.0.partition_point(|piece| piece.end <= address);
        match self.0.get(after) {
            Some(piece) if piece.start <= address => {
                Found::Pages(piece.offset + (address - piece.start))
            }
            _ => Found::Nothing,
        }
    }

    /// Memory has been unmapped.
    pub fn forget(&mut self, start: u64, end: u64) {
        self.replace(start, end, |_| None);
    }

    /// Memory has been given back to the kernel, but is still mapped.
    pub fn forget_content(&mut self, start: u64, end: u64) {
        self.replace(start, end, |piece| (!piece.anonymous).then_some(piece));
    }

    /// Memory has been moved.
    pub fn relocate(&mut self, from: u64, to: u64, len: u64) {
        let end = from.saturating_add(len);
        let moved = self.0.iter().filter_map(|piece| piece.part(from, end));
        let moved: Vec<Piece> = moved
            .map(|piece| Piece {
                start: piece.start - from + to,
                end: piece.end - from + to,
                ..piece
            })
            .collect();
        self.forget(from, end);
        self.forget(to, to.saturating_add(len));
        self.0.extend(moved);
        self.0.sort_unstable_by_key(|piece| piece.start);
    }

    /// Replaces what lies between two addresses.
    fn replace(&mut self, start: u64, end: u64, with: impl Fn(Piece) -> Option<Piece>) {
        let pieces = std::mem::take(&mut self.0);
        for piece in pieces {
            let inside = piece.part(start, end).and_then(&with);
            let parts = [piece.part(0, start), inside, piece.part(end, u64::MAX)];
            self.0.extend(parts.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Map, Piece};

    fn map() -> Map {
        let piece = |start: u64, offset, anonymous| Piece {
            start,
            end: start + 0x4000,
            offset,
            anonymous,
        };
        Map(vec![piece(0x10000, 0, true), piece(0x20000, 0x4000, false)])
    }

    #[test]
    fn an_address_is_found_in_the_page_file() {
        let map = map();
        assert_eq!(map.find(0x13000), Found::Pages(0x3000));
        assert_eq!(map.find(0x20000), Found::Pages(0x4000));
        for nowhere in [0, 0xf000, 0x14000, 0x24000, u64::MAX] {
            assert_eq!(map.find(nowhere), Found::Nothing);
        }
    }

    #[test]
    fn memory_that_moves_keeps_its_content() {
        let mut map = map();
        map.relocate(0x11000, 0x80000, 0x2000);
        assert_eq!(map.find(0x80000), Found::Pages(0x1000));
        assert_eq!(map.find(0x81000), Found::Pages(0x2000));
        assert_eq!(map.find(0x11000), Found::Nothing);
        assert_eq!(map.find(0x13000), Found::Pages(0x3000));
        // To where something else was.
        map.relocate(0x80000, 0x21000, 0x1000);
        assert_eq!(map.find(0x21000), Found::Pages(0x1000));
        assert_eq!(map.find(0x20000), Found::Pages(0x4000));
        assert_eq!(map.find(0x22000), Found::Pages(0x6000));
        assert_eq!(map.find(0x80000), Found::Nothing);
    }

    #[test]
    fn memory_that_is_given_back_is_zeroes_unless_there_is_a_file_below() {
        let mut map = map();
        map.forget_content(0x12000, 0x22000);
        assert_eq!(map.find(0x11000), Found::Pages(0x1000));
        assert_eq!(map.find(0x12000), Found::Nothing);
        assert_eq!(map.find(0x21000), Found::Pages(0x5000));
        map.forget(0x10000, 0x30000);
        assert_eq!(map.find(0x21000), Found::Nothing);
        assert!(map.0.is_empty());
    }
}
