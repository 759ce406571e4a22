//! Objects that are read: their content stays, whatever becomes of them meanwhile.

use std::collections::VecDeque;
use std::ops::Range;

use crate::contents::{Contents, Segment, Source};
use crate::janitor::Pin;
use crate::record::{self, Place};
use crate::service::{Bucket, MAX_ATTEMPTS, S3};
use crate::{Error, Result};

impl S3 {
    /// Opens an object, so that its content can be read even if it is replaced meanwhile.
    pub(crate) async fn open_object(&self, bucket: &Bucket, key: &str) -> Result<Opened> {
        for _ in 0..MAX_ATTEMPTS {
            let (record, _) = self.find_object(bucket, key)?.ok_or(Error::NoSuchKey)?;
            let opened = match record.place {
                Place::Parts(id) => {
                    let pin = self.pins().pin(self, id);
                    // Pinned first, looked up then: what is found now stays.
                    self.manifest(id)?.map(|pieces| {
                        let segments = pieces.into_iter().map(|piece| Segment {
                            source: Source::Place(piece.place),
                            offset: 0,
                            length: piece.size,
                        });
                        (segments.collect(), Some(pin))
                    })
                }
                place => self.source(place).await?.map(|source| {
                    let length = record.size;
                    let whole = Segment {
                        source,
                        offset: 0,
                        length,
                    };
                    (vec![whole], None)
                }),
            };
            if let Some((segments, pin)) = opened {
                return Ok(Opened {
                    record,
                    segments,
                    pin,
                });
            }
            // It was replaced between the two looks.
        }
        Err(Error::OperationAborted)
    }
}

/// An object whose content stays as long as this does.
pub(crate) struct Opened {
    pub(crate) record: record::Object,
    /// One, or one per part.
    segments: Vec<Segment>,
    pin: Option<Pin>,
}

impl Opened {
    /// The range of a part, counted from 1; an object that came whole is its only part.
    pub(crate) fn part(&self, number: u16) -> Result<Range<u64>> {
        let index = usize::from(number).checked_sub(1);
        let index = index.filter(|index| *index < self.segments.len());
        let index = index.ok_or(Error::InvalidPartNumber)?;
        let before = self.segments[..index].iter();
        let from = before.map(|segment| segment.length).sum();
        Ok(from..from + self.segments[index].length)
    }

    /// The bytes in `range`, which must lie within the object.
    pub(crate) fn contents(self, s3: &S3, range: Range<u64>) -> Contents {
        let mut wanted = VecDeque::new();
        let mut from = 0;
        for segment in self.segments {
            let to = from + segment.length;
            let (first, last) = (range.start.max(from), range.end.min(to));
            if first < last {
                wanted.push_back(part_of(segment, first - from, last - first));
            }
            from = to;
        }
        Contents::new(s3, wanted, self.pin)
    }
}

fn part_of(segment: Segment, offset: u64, length: u64) -> Segment {
    if let Source::Bytes(bytes) = &segment.source {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = usize::try_from(offset + length)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        return Segment {
            source: Source::Bytes(bytes.slice(from..to)),
            offset: 0,
            length,
        };
    }
    Segment {
        source: segment.source,
        offset: segment.offset + offset,
        length,
    }
}
