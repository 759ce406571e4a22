//! Lists of executions.

use clock::Timestamp;

use super::Executions;
use super::record::{self, Line};
use crate::Error;

/// So many lines are looked at for one page of a filtered list. The page may then be short, or
/// empty, with a token to go on from.
const MAX_LOOKED_AT: usize = 20_000;
const PAGE: usize = 1_000;

/// Which executions of a machine or map run to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub status: Option<String>,
    pub version_arn: Option<String>,
    pub alias_arn: Option<String>,
    /// Only those that were, or were not, redriven.
    pub redriven: Option<bool>,
}

/// An execution in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub arn: String,
    pub name: String,
    pub machine_arn: String,
    pub version_arn: Option<String>,
    pub alias_arn: Option<String>,
    pub map_run_arn: Option<String>,
    pub start: Timestamp,
    pub stop: Option<Timestamp>,
    pub status: String,
    pub redrives: u32,
    pub redriven: Option<Timestamp>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    pub executions: Vec<Listed>,
    /// Where the next page begins.
    pub next: Option<Vec<u8>>,
}

impl Executions {
    /// The executions of a machine or map run, those that began last first. `after` is the `next` of
    /// the page before.
    pub fn list(
        &self,
        scope: &str,
        filter: &Filter,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, Error> {
        let prefix = record::lines_of(scope);
        let mut last = after.map(|after| [&prefix[..], after].concat());
        let mut executions = Vec::new();
        let mut looked_at = 0;
        loop {
            let wanted = PAGE.min(limit + 1);
            let lines = self.table.scan(&prefix, last.as_deref(), wanted)?;
            for stored in &lines {
                if executions.len() == limit {
                    let next = last.map(|last| last[prefix.len()..].to_vec());
                    return Ok(Page { executions, next });
                }
                let line: Line = record::decode(&stored.value)?;
                if filter.accepts(&line) {
                    executions.push(Listed::from(line));
                }
                last = Some(stored.key.to_vec());
                looked_at += 1;
            }
            if lines.len() < wanted {
                return Ok(Page {
                    executions,
                    next: None,
                });
            }
            if looked_at >= MAX_LOOKED_AT {
                let next = last.map(|last| last[prefix.len()..].to_vec());
                return Ok(Page { executions, next });
            }
        }
    }
}

impl Filter {
    fn accepts(&self, line: &Line) -> bool {
        let same = |wanted: &Option<String>, found: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == found
        };
        same(&self.status, Some(&line.status))
            && same(&self.version_arn, line.version_arn.as_ref())
            && same(&self.alias_arn, line.alias_arn.as_ref())
            && self
                .redriven
                .is_none_or(|redriven| redriven == (line.redrives > 0))
    }
}

impl From<Line> for Listed {
    fn from(line: Line) -> Self {
        Self {
            arn: line.arn,
            name: line.name,
            machine_arn: line.machine_arn,
            version_arn: line.version_arn,
            alias_arn: line.alias_arn,
            map_run_arn: line.map_run_arn,
            start: Timestamp::from_micros(line.start),
            stop: line.stop.map(Timestamp::from_micros),
            status: line.status,
            redrives: line.redrives,
            redriven: line.redriven.map(Timestamp::from_micros),
        }
    }
}
