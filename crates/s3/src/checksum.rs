//! The sums that S3 takes and gives: MD5 for entity tags, and the checksum of each object.
//!
//! Every object has one checksum. A client chooses its algorithm; otherwise it is CRC64NVME of the
//! whole object, as on AWS.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use s3s::crypto::{self, Checksum as _};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|one| one.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            Error::request(
                "Checksum algorithm provided is unsupported. Please try again with any of the \
                 valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })
    }

    /// How many bytes a sum has.
    fn width(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The algorithm of a CRC, whose sums of parts give the sum of the whole.
    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// A checksum as it stands in headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) algorithm: Algorithm,
    /// In base64; a composite one ends in `-` and the number of parts.
    pub(crate) value: String,
    pub(crate) composite: bool,
}

/// How the object of a multipart upload is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summing {
    pub(crate) algorithm: Algorithm,
    pub(crate) composite: bool,
    /// Whether the client asked for it.
    pub(crate) asked: bool,
}

impl Summing {
    pub(crate) fn new(algorithm: Option<&str>, kind: Option<&str>) -> Result<Self> {
        let asked = algorithm.map(Algorithm::parse).transpose()?;
        let algorithm = asked.unwrap_or(Algorithm::Crc64Nvme);
        let composite = match kind {
            Some("COMPOSITE") => true,
            Some("FULL_OBJECT") => false,
            None => asked.is_some() && algorithm != Algorithm::Crc64Nvme,
            Some(_) => {
                return Err(Error::request(
                    "Value for x-amz-checksum-type header is invalid.",
                ));
            }
        };
        let possible = match (algorithm.crc(), composite) {
            (None, false) => false,
            (Some(CrcAlgorithm::Crc64Nvme), true) => false,
            (None | Some(_), _) => true,
        };
        if !possible {
            let kind = if composite {
                "COMPOSITE"
            } else {
                "FULL_OBJECT"
            };
            return Err(Error::request(format!(
                "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                algorithm.name().to_ascii_lowercase()
            )));
        }
        Ok(Self {
            algorithm,
            composite,
            asked: asked.is_some(),
        })
    }

    /// The sum of an object from the sums and sizes of its parts.
    pub(crate) fn of_parts<'p>(self, parts: impl Iterator<Item = (&'p Sum, u64)>) -> Result<Sum> {
        let damaged = || Error::Damaged("a part's checksum".to_owned());
        let mut count = 0_u32;
        let raw = if self.composite {
            let mut all = Vec::new();
            for (sum, _) in parts {
                all.extend(sum.raw().ok_or_else(damaged)?);
                count += 1;
            }
            let mut hasher = Sums::new(self.algorithm);
            hasher.update(&all);
            hasher.finish()
        } else {
            let crc = self.algorithm.crc().ok_or_else(damaged)?;
            let mut whole = None;
            for (sum, size) in parts {
                let part = number(&sum.raw().ok_or_else(damaged)?);
                whole = Some(match whole {
                    None => part,
                    Some(before) => crc_fast::checksum_combine(crc, before, part, size),
                });
            }
            let width = self.algorithm.width();
            whole.unwrap_or_default().to_be_bytes()[8 - width..].to_vec()
        };
        let mut value = STANDARD.encode(raw);
        if self.composite {
            value.push_str(&format!("-{count}"));
        }
        Ok(Sum {
            algorithm: self.algorithm,
            value,
            composite: self.composite,
        })
    }
}

impl Sum {
    pub(crate) fn kind(&self) -> &'static str {
        if self.composite {
            "COMPOSITE"
        } else {
            "FULL_OBJECT"
        }
    }

    fn raw(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.value).ok()
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A sum in the making.
enum Sums {
    Crc32(crypto::Crc32),
    Crc32c(crypto::Crc32c),
    Crc64Nvme(crypto::Crc64Nvme),
    Sha1(crypto::Sha1),
    Sha256(crypto::Sha256),
}

impl Sums {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 => Self::Crc32(crypto::Crc32::new()),
            Algorithm::Crc32c => Self::Crc32c(crypto::Crc32c::new()),
            Algorithm::Crc64Nvme => Self::Crc64Nvme(crypto::Crc64Nvme::new()),
            Algorithm::Sha1 => Self::Sha1(crypto::Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(crypto::Sha256::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc32(sum) => sum.update(data),
            Self::Crc32c(sum) => sum.update(data),
            Self::Crc64Nvme(sum) => sum.update(data),
            Self::Sha1(sum) => sum.update(data),
            Self::Sha256(sum) => sum.update(data),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32(sum) => sum.finalize().to_vec(),
            Self::Crc32c(sum) => sum.finalize().to_vec(),
            Self::Crc64Nvme(sum) => sum.finalize().to_vec(),
            Self::Sha1(sum) => sum.finalize().as_ref().to_vec(),
            Self::Sha256(sum) => sum.finalize().as_ref().to_vec(),
        }
    }
}

/// All sums of one content, taken while it passes.
pub(crate) struct Hasher {
    md5: crypto::Md5,
    algorithm: Algorithm,
    sum: Sums,
    size: u64,
}

/// What a [`Hasher`] has found.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    pub(crate) size: u64,
    pub(crate) md5: Vec<u8>,
    pub(crate) sum: Sum,
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            md5: crypto::Md5::new(),
            algorithm,
            sum: Sums::new(algorithm),
            size: 0,
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        self.md5.update(data);
        self.sum.update(data);
    }

    pub(crate) fn finish(self) -> Digests {
        Digests {
            size: self.size,
            md5: self.md5.finalize().as_ref().to_vec(),
            sum: Sum {
                algorithm: self.algorithm,
                value: STANDARD.encode(self.sum.finish()),
                composite: false,
            },
        }
    }
}

/// What a client says its content sums up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) size: Option<u64>,
    /// `Content-MD5`.
    pub(crate) md5: Option<Vec<u8>>,
    pub(crate) sum: Option<Sum>,
    /// The checksum that comes behind the body instead.
    pub(crate) trailer: Option<Trailer>,
    /// The algorithm, if the client names one without a value.
    pub(crate) algorithm: Option<Algorithm>,
}

/// A checksum that a trailer will bring. It is there when the body has been read.
#[derive(Clone, Debug)]
pub(crate) struct Trailer {
    pub(crate) algorithm: Algorithm,
    pub(crate) value: std::sync::Arc<std::sync::OnceLock<String>>,
}

impl Expected {
    pub(crate) fn algorithm(&self) -> Algorithm {
        let sum = self.sum.as_ref().map(|sum| sum.algorithm);
        let trailer = self.trailer.as_ref().map(|trailer| trailer.algorithm);
        sum.or(trailer)
            .or(self.algorithm)
            .unwrap_or(Algorithm::Crc64Nvme)
    }

    pub(crate) fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm())
    }

    /// Holds what was found against what was said.
    pub(crate) fn check(&self, found: &Digests) -> Result<()> {
        if self.size.is_some_and(|size| size != found.size) {
            return Err(Error::IncompleteBody);
        }
        if self.md5.as_ref().is_some_and(|md5| *md5 != found.md5) {
            return Err(Error::BadDigest("Content-MD5"));
        }
        let sum = self.sum.as_ref().map(|sum| &sum.value);
        if sum.is_some_and(|sum| *sum != found.sum.value) {
            return Err(Error::BadDigest(self.algorithm().name()));
        }
        if let Some(trailer) = &self.trailer {
            match trailer.value.get() {
                Some(value) if *value == found.sum.value => {}
                Some(_) => return Err(Error::BadDigest(trailer.algorithm.name())),
                None => return Err(Error::MalformedChunks("the trailer is missing")),
            }
        }
        Ok(())
    }
}

/// A sum that a client gives.
pub(crate) fn given(algorithm: Algorithm, value: &str) -> Result<Sum> {
    let raw = STANDARD.decode(value).unwrap_or_default();
    if raw.len() != algorithm.width() {
        return Err(Error::request(format!(
            "Value for {} header is invalid.",
            algorithm.header()
        )));
    }
    Ok(Sum {
        algorithm,
        value: value.to_owned(),
        composite: false,
    })
}

/// A `Content-MD5`.
pub(crate) fn given_md5(value: &str) -> Result<Vec<u8>> {
    let raw = STANDARD.decode(value).unwrap_or_default();
    if raw.len() == 16 {
        Ok(raw)
    } else {
        Err(Error::InvalidDigest)
    }
}

/// The entity tag of an object from those of its parts.
pub(crate) fn etag_of_parts<'p>(parts: impl ExactSizeIterator<Item = &'p str>) -> Result<String> {
    let count = parts.len();
    let mut md5 = crypto::Md5::new();
    for part in parts {
        let raw =
            hex::decode(part).map_err(|_| Error::Damaged("a part's entity tag".to_owned()))?;
        md5.update(&raw);
    }
    Ok(format!("{}-{count}", hex::encode(md5.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(algorithm: Algorithm, data: &[u8]) -> Digests {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    #[test]
    fn sums_are_those_that_clients_compute() {
        // The check values of the algorithms, over "123456789".
        for (algorithm, hex_value) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ] {
            let found = digests(algorithm, b"123456789").sum.value;
            assert_eq!(found, STANDARD.encode(hex::decode(hex_value).unwrap()));
        }
        let empty = digests(Algorithm::Sha256, b"");
        assert_eq!(hex::encode(&empty.md5), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(empty.size, 0);
    }

    #[test]
    fn the_sum_of_a_whole_follows_from_its_parts() {
        let (a, b) = (vec![7_u8; 100_000], b"the end".to_vec());
        let whole = [a.clone(), b.clone()].concat();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let summing = Summing::new(Some(algorithm.name()), Some("FULL_OBJECT")).unwrap();
            let parts = [digests(algorithm, &a), digests(algorithm, &b)];
            let combined = summing
                .of_parts(parts.iter().map(|part| (&part.sum, part.size)))
                .unwrap();
            assert_eq!(combined, digests(algorithm, &whole).sum);
        }
    }

    #[test]
    fn a_composite_sum_is_that_of_the_sums() {
        let summing = Summing::new(Some("SHA256"), None).unwrap();
        assert!(summing.composite);
        let part = digests(Algorithm::Sha256, b"x").sum;
        let found = summing.of_parts([(&part, 1)].into_iter()).unwrap();
        let raw = part.raw().unwrap();
        let expected = digests(Algorithm::Sha256, &raw).sum.value;
        assert_eq!(found.value, format!("{expected}-1"));
    }

    #[test]
    fn impossible_sums_are_refused() {
        assert!(Summing::new(Some("SHA1"), Some("FULL_OBJECT")).is_err());
        assert!(Summing::new(Some("CRC64NVME"), Some("COMPOSITE")).is_err());
        assert!(Summing::new(Some("MD5"), None).is_err());
        assert!(!Summing::new(None, None).unwrap().composite);
        assert!(given(Algorithm::Crc32, "AAAA").is_err());
        assert!(given(Algorithm::Crc32, "AAAAAA==").is_ok());
        assert!(given_md5("nonsense").is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let found = digests(Algorithm::Crc32, b"data");
        let code = |expected: Expected| expected.check(&found).map_err(|error| error.code());
        let plain = Expected::default;
        assert_eq!(code(plain()), Ok(()));
        assert_eq!(
            code(Expected {
                size: Some(3),
                ..plain()
            }),
            Err("IncompleteBody")
        );
        let md5 = Some(vec![0; 16]);
        assert_eq!(code(Expected { md5, ..plain() }), Err("BadDigest"));
        let sum = Some(given(Algorithm::Crc32, "AAAAAA==").unwrap());
        assert_eq!(code(Expected { sum, ..plain() }), Err("BadDigest"));
        let trailer = Some(Trailer {
            algorithm: Algorithm::Crc32,
            value: std::sync::Arc::default(),
        });
        assert_eq!(code(Expected { trailer, ..plain() }), Err("IncompleteBody"));
    }
}
