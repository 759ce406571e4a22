//! The AWS Lambda service: functions, versions, aliases and the one way in to invoke them.
