//! The operations, by what they are about.

mod actions;
mod activities;
mod policies;
mod tags;
mod targets;

use protocol::operations;

use crate::Autoscaling;

operations! { Autoscaling:
    "DeleteScalingPolicy" => policies::delete,
    "DeleteScheduledAction" => actions::delete,
    "DeregisterScalableTarget" => targets::deregister,
    "DescribeScalableTargets" => targets::describe,
    "DescribeScalingActivities" => activities::describe,
    "DescribeScalingPolicies" => policies::describe,
    "DescribeScheduledActions" => actions::describe,
    "ListTagsForResource" => tags::list,
    "PutScalingPolicy" => policies::put,
    "PutScheduledAction" => actions::put,
    "RegisterScalableTarget" => targets::register,
    "TagResource" => tags::add,
    "UntagResource" => tags::remove,
}

/// Whether a list that a request filters by has the value; no list lets everything through.
fn among(filter: Option<&Vec<String>>, value: &str) -> bool {
    filter.is_none_or(|wanted| wanted.is_empty() || wanted.iter().any(|name| name == value))
}

/// A capacity of a request.
fn capacity(value: i32, what: &str) -> Result<u32, crate::Error> {
    u32::try_from(value)
        .map_err(|_| crate::Error::Validation(format!("{what} capacity cannot be less than 0")))
}
