//! Types of the AWS interfaces that firn serves, generated from the facts in `models/`.
