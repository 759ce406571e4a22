//! Where in the address space a tape lies.

use super::TapeError;
use super::writer::REGION;
use crate::{Image, PAGE};

/// First address that user memory cannot have.
pub const ADDRESS_END: u64 = 0x7fff_ffff_f000;
/// The lowest place: what position-dependent programs use is near zero.
const LOWEST: u64 = 0x0200_0000;
/// Stubs and position-independent programs have all their memory above.
pub const HIGHEST: u64 = 0x5000_0000_0000;
const ALIGNMENT: u64 = 2 << 20;
/// Room for the heap behind the program to grow, and for stacks to grow down.
const GROWTH: u64 = 1 << 30;

/// A hole of [`REGION`] bytes: the tape from its base on, the kernel's own mappings at its end
/// until they get to their places.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub base: u64,
    parking: u64,
}

impl Place {
    pub fn end(&self) -> u64 {
        self.base + REGION
    }

    /// The kernel's own mappings in the image: offset from the vDSO, length, parking place.
    pub fn special(&self, image: &Image) -> Vec<(i64, u64, u64)> {
        let Some(vdso) = image
            .special
            .iter()
            .find(|special| special.name == "[vdso]")
        else {
            return Vec::new();
        };
        let mut place = self.parking;
        let mut list = Vec::new();
        for special in &image.special {
            let len = special.end.saturating_sub(special.start);
            let offset = special.start.wrapping_sub(vdso.start).cast_signed();
            list.push((offset, len, place));
            place += len;
        }
        list
    }
}

/// The lowest hole that is large enough.
pub fn find(image: &Image) -> Result<Place, TapeError> {
    let parked: u64 = image
        .special
        .iter()
        .map(|special| special.end.saturating_sub(special.start))
        .fold(0, u64::saturating_add);
    if parked > 512 << 10 {
        return Err(TapeError::Image("special mappings"));
    }
    let mut used: Vec<(u64, u64)> = Vec::with_capacity(image.mappings.len() + 4);
    for mapping in &image.mappings {
        let room = if mapping.advice.grows_down { GROWTH } else { 0 };
        used.push((mapping.start.saturating_sub(room), mapping.end));
    }
    used.extend(
        image
            .special
            .iter()
            .map(|special| (special.start, special.end)),
    );
    let layout = &image.layout;
    used.push((layout.start_brk, layout.brk.saturating_add(GROWTH)));
    used.sort_unstable();
    let mut candidate = LOWEST;
    for (start, end) in used {
        if start >= candidate.saturating_add(REGION) {
            break;
        }
        let free = end.checked_next_multiple_of(ALIGNMENT);
        candidate = candidate.max(free.ok_or(TapeError::NoRoom)?);
    }
    if candidate > HIGHEST - REGION {
        return Err(TapeError::NoRoom);
    }
    let parking = (candidate + REGION).saturating_sub(parked) & !(PAGE - 1);
    Ok(Place {
        base: candidate,
        parking,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn move_to(image: &mut Image, start: u64, len: u64) {
        image.mappings[0].start = start;
        image.mappings[0].end = start + len;
    }

    #[test]
    fn the_tape_lies_where_the_image_has_nothing() {
        let mut image = example::image();
        // The heap begins at one MiB and may grow to one GiB.
        let base = find(&image).unwrap().base;
        assert_eq!(base, (GROWTH + 0x10_0000).next_multiple_of(ALIGNMENT));

        move_to(&mut image, base + REGION - PAGE, PAGE);
        assert_eq!(find(&image).unwrap().base, base + REGION);
        move_to(&mut image, base + REGION, PAGE);
        assert_eq!(find(&image).unwrap().base, base);
    }

    #[test]
    fn parked_mappings_lie_inside_the_hole() {
        let image = example::image();
        let place = find(&image).unwrap();
        let special = place.special(&image);
        assert_eq!(special[0].0, -0x4000);
        assert!(special.iter().all(|(_, len, at)| at + len <= place.end()));
        assert!(special[0].2 > place.base + REGION / 2);
    }

    #[test]
    fn an_image_without_a_hole_is_refused() {
        let mut image = example::image();
        move_to(&mut image, LOWEST, HIGHEST);
        assert!(matches!(find(&image), Err(TapeError::NoRoom)));
    }
}
