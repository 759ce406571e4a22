//! Which pages a clone has used.

use std::io;
use std::ops::Range;

use crate::freeze::pagemap::{Pagemap, Pick};
use crate::{Backing, Image, Mapping, PAGE, ScratchContent, Segment, WorkingSet};

/// What the clone `pid`, as this process numbers it, has used of its image since it was thawed. It
/// may run meanwhile. Without a [`Recorder`](crate::Recorder) the kernel has mapped pages around
/// those that were used, and they count as used.
pub fn scan(pid: i32, image: &Image) -> io::Result<WorkingSet> {
    let map = Pagemap::open(pid)?;
    let mut written = Vec::new();
    let mut touched: Vec<Range<u64>> = required(image);
    let mut files: Vec<Range<u64>> = Vec::new();
    for mapping in &image.mappings {
        if is_file(mapping) {
            let present = map.runs(Pick::Present, mapping.start, mapping.end)?;
            files.extend(present.into_iter().map(|(start, end)| start..end));
        }
        if mapping.segments.is_empty() {
            continue;
        }
        if is_writable(mapping) {
            for (start, end) in map.runs(Pick::Private, mapping.start, mapping.end)? {
                let parts = inside(mapping, start, end);
                written.extend(parts.map(|(_, part)| (part.start, part.end - part.start)));
            }
        }
        for (start, end) in map.runs(Pick::Present, mapping.start, mapping.end)? {
            let parts = inside(mapping, start, end);
            touched.extend(parts.map(|(segment, part)| in_page_file(segment, &part)));
        }
    }
    let lengths = |ranges: Vec<Range<u64>>| {
        let ranges = ranges.into_iter();
        ranges
            .map(|range| (range.start, range.end - range.start))
            .collect()
    };
    Ok(WorkingSet {
        written,
        touched: lengths(merged(touched)),
        files: lengths(merged(files)),
        additions: 0,
    })
}

impl WorkingSet {
    /// Other clones have used these ranges of the page file as well. No two answers are quite alike.
    pub fn add(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) {
        let known = self.touched.iter();
        let known = known.map(|(start, len)| *start..start.saturating_add(*len));
        let all = merged(known.chain(ranges).collect());
        self.touched = all
            .into_iter()
            .map(|r| (r.start, r.end - r.start))
            .collect();
        self.additions += 1;
    }
}

fn is_file(mapping: &Mapping) -> bool {
    matches!(
        mapping.backing,
        Backing::Private { .. } | Backing::Shared { .. }
    )
}

/// Ranges of the page file that a thaw reads before the clone runs at all, by means that cannot
/// wait for them: stacks, shared objects, scratch files. They must be there.
pub fn required(image: &Image) -> Vec<Range<u64>> {
    let range = |segment: &Segment| segment.offset..segment.offset + segment.len;
    let copied = |mapping: &&Mapping| mapping.advice.grows_down;
    let stacks = image
        .mappings
        .iter()
        .filter(copied)
        .flat_map(|m| &m.segments);
    let objects = image.objects.iter().flat_map(|object| &object.segments);
    let scratch = image
        .scratch
        .iter()
        .filter_map(|entry| match entry.content {
            ScratchContent::File { len, offset } if len > 0 => {
                Some(offset..offset + len.next_multiple_of(PAGE))
            }
            _ => None,
        });
    merged(stacks.chain(objects).map(range).chain(scratch).collect())
}

fn is_writable(mapping: &Mapping) -> bool {
    let private = matches!(
        mapping.backing,
        Backing::Anonymous | Backing::Private { .. }
    );
    private && mapping.protection & libc::PROT_WRITE.cast_unsigned() != 0
}

/// The parts of a range that lie in segments, with these.
fn inside(mapping: &Mapping, start: u64, end: u64) -> impl Iterator<Item = (&Segment, Range<u64>)> {
    let first = mapping
        .segments
        .partition_point(move |segment| segment.start + segment.len <= start);
    let behind = mapping.segments[first..].iter();
    behind
        .take_while(move |segment| segment.start < end)
        .map(move |segment| {
            let part = segment.start.max(start)..(segment.start + segment.len).min(end);
            (segment, part)
        })
}

fn in_page_file(segment: &Segment, part: &Range<u64>) -> Range<u64> {
    let offset = segment.offset + (part.start - segment.start);
    offset..offset + (part.end - part.start)
}

fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::{in_page_file, inside, merged};
    use crate::{Advice, Backing, Mapping, Segment, WorkingSet};

    fn mapping() -> Mapping {
        let segment = |start, offset| Segment {
            start,
            len: 0x2000,
            offset,
        };
        Mapping {
            start: 0x10000,
            end: 0x80000,
            protection: 3,
            backing: Backing::Anonymous,
            segments: vec![
                segment(0x10000, 0),
                segment(0x20000, 0x2000),
                segment(0x30000, 0x9000),
            ],
            advice: Advice::default(),
        }
    }

    #[test]
    fn only_what_comes_from_the_image_counts() {
        let mapping = mapping();
        let ranges = |start, end| -> Vec<_> {
            let parts = inside(&mapping, start, end);
            parts
                .map(|(segment, part)| (part.start, in_page_file(segment, &part)))
                .collect()
        };
        assert_eq!(ranges(0x12000, 0x20000), []);
        assert_eq!(
            ranges(0x11000, 0x21000),
            [(0x11000, 0x1000..0x2000), (0x20000, 0x2000..0x3000)]
        );
        assert_eq!(ranges(0x31000, 0x80000), [(0x31000, 0xa000..0xb000)]);
    }

    #[test]
    fn what_is_added_is_there_once() {
        let mut set = WorkingSet {
            touched: vec![(0x1000, 0x1000), (0x8000, 0x2000)],
            ..WorkingSet::default()
        };
        set.add([0x2000..0x3000, 0x20000..0x21000, 0x8000..0x9000]);
        assert_eq!(
            set.touched,
            [(0x1000, 0x2000), (0x8000, 0x2000), (0x20000, 0x1000)]
        );
        assert_eq!(set.additions, 1);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let ranges = vec![
            0x100_000..0x101_000,
            0..0x1000,
            0x3000..0x4000,
            0x1000..0x2000,
            0x1000..0x1800,
        ];
        assert_eq!(
            merged(ranges),
            [0..0x2000, 0x3000..0x4000, 0x100_000..0x101_000]
        );
    }
}
