//! The operations, one file each, as the router finds them.

use protocol::operations;

use crate::Lambda;

mod create_alias;
mod create_function;
mod delete_alias;
mod delete_function;
mod get_account_settings;
mod get_alias;
mod get_function;
mod get_function_configuration;
mod invoke;
mod list_aliases;
mod list_functions;
mod list_tags;
mod list_versions_by_function;
mod publish_version;
mod source;
mod tag_resource;
mod untag_resource;
mod update_alias;
mod update_function_code;
mod update_function_configuration;

operations! { Lambda:
    "CreateAlias" => create_alias::run,
    "CreateFunction" => create_function::run,
    "DeleteAlias" => delete_alias::run,
    "DeleteFunction" => delete_function::run,
    "GetAccountSettings" => get_account_settings::run,
    "GetAlias" => get_alias::run,
    "GetFunction" => get_function::run,
    "GetFunctionConfiguration" => get_function_configuration::run,
    "Invoke" => invoke::run,
    "ListAliases" => list_aliases::run,
    "ListFunctions" => list_functions::run,
    "ListTags" => list_tags::run,
    "ListVersionsByFunction" => list_versions_by_function::run,
    "PublishVersion" => publish_version::run,
    "TagResource" => tag_resource::run,
    "UntagResource" => untag_resource::run,
    "UpdateAlias" => update_alias::run,
    "UpdateFunctionCode" => update_function_code::run,
    "UpdateFunctionConfiguration" => update_function_configuration::run,
}
