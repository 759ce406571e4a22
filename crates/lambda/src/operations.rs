//! The operations, one file each, as the router finds them.

use protocol::operations;

use crate::Lambda;

mod add_layer_version_permission;
mod add_permission;
mod create_alias;
mod create_code_signing_config;
mod create_event_source_mapping;
mod create_function;
mod create_function_url_config;
mod delete_alias;
mod delete_code_signing_config;
mod delete_event_source_mapping;
mod delete_function;
mod delete_function_code_signing_config;
mod delete_function_concurrency;
mod delete_function_event_invoke_config;
mod delete_function_url_config;
mod delete_layer_version;
mod delete_provisioned_concurrency_config;
mod delete_resource_policy;
mod get_account_settings;
mod get_alias;
mod get_code_signing_config;
mod get_event_source_mapping;
mod get_function;
mod get_function_code_signing_config;
mod get_function_concurrency;
mod get_function_configuration;
mod get_function_event_invoke_config;
mod get_function_recursion_config;
mod get_function_scaling_config;
mod get_function_url_config;
mod get_layer_version;
mod get_layer_version_by_arn;
mod get_layer_version_policy;
mod get_policy;
mod get_provisioned_concurrency_config;
mod get_resource_policy;
mod get_runtime_management_config;
mod invoke;
mod invoke_async;
mod invoke_with_response_stream;
mod list_aliases;
mod list_code_signing_configs;
mod list_event_source_mappings;
mod list_function_event_invoke_configs;
mod list_function_url_configs;
mod list_functions;
mod list_functions_by_code_signing_config;
mod list_layer_versions;
mod list_layers;
mod list_provisioned_concurrency_configs;
mod list_tags;
mod list_versions_by_function;
mod publish_layer_version;
mod publish_version;
mod put_function_code_signing_config;
mod put_function_concurrency;
mod put_function_event_invoke_config;
mod put_function_recursion_config;
mod put_function_scaling_config;
mod put_provisioned_concurrency_config;
mod put_resource_policy;
mod put_runtime_management_config;
mod remove_layer_version_permission;
mod remove_permission;
mod source;
mod tag_resource;
mod untag_resource;
mod update_alias;
mod update_code_signing_config;
mod update_event_source_mapping;
mod update_function_code;
mod update_function_configuration;
mod update_function_event_invoke_config;
mod update_function_url_config;

operations! { Lambda:
    "AddLayerVersionPermission" => add_layer_version_permission::run,
    "AddPermission" => add_permission::run,
    "CreateAlias" => create_alias::run,
    "CreateCodeSigningConfig" => create_code_signing_config::run,
    "CreateEventSourceMapping" => create_event_source_mapping::run,
    "CreateFunction" => create_function::run,
    "CreateFunctionUrlConfig" => create_function_url_config::run,
    "DeleteAlias" => delete_alias::run,
    "DeleteCodeSigningConfig" => delete_code_signing_config::run,
    "DeleteEventSourceMapping" => delete_event_source_mapping::run,
    "DeleteFunction" => delete_function::run,
    "DeleteFunctionCodeSigningConfig" => delete_function_code_signing_config::run,
    "DeleteFunctionConcurrency" => delete_function_concurrency::run,
    "DeleteFunctionEventInvokeConfig" => delete_function_event_invoke_config::run,
    "DeleteFunctionUrlConfig" => delete_function_url_config::run,
    "DeleteLayerVersion" => delete_layer_version::run,
    "DeleteProvisionedConcurrencyConfig" => delete_provisioned_concurrency_config::run,
    "DeleteResourcePolicy" => delete_resource_policy::run,
    "GetAccountSettings" => get_account_settings::run,
    "GetAlias" => get_alias::run,
    "GetCodeSigningConfig" => get_code_signing_config::run,
    "GetEventSourceMapping" => get_event_source_mapping::run,
    "GetFunction" => get_function::run,
    "GetFunctionCodeSigningConfig" => get_function_code_signing_config::run,
    "GetFunctionConcurrency" => get_function_concurrency::run,
    "GetFunctionConfiguration" => get_function_configuration::run,
    "GetFunctionEventInvokeConfig" => get_function_event_invoke_config::run,
    "GetFunctionRecursionConfig" => get_function_recursion_config::run,
    "GetFunctionScalingConfig" => get_function_scaling_config::run,
    "GetFunctionUrlConfig" => get_function_url_config::run,
    "GetLayerVersion" => get_layer_version::run,
    "GetLayerVersionByArn" => get_layer_version_by_arn::run,
    "GetLayerVersionPolicy" => get_layer_version_policy::run,
    "GetPolicy" => get_policy::run,
    "GetProvisionedConcurrencyConfig" => get_provisioned_concurrency_config::run,
    "GetResourcePolicy" => get_resource_policy::run,
    "GetRuntimeManagementConfig" => get_runtime_management_config::run,
    "Invoke" => invoke::run,
    "InvokeAsync" => invoke_async::run,
    "InvokeWithResponseStream" => invoke_with_response_stream::run,
    "ListAliases" => list_aliases::run,
    "ListCodeSigningConfigs" => list_code_signing_configs::run,
    "ListEventSourceMappings" => list_event_source_mappings::run,
    "ListFunctionEventInvokeConfigs" => list_function_event_invoke_configs::run,
    "ListFunctionUrlConfigs" => list_function_url_configs::run,
    "ListFunctions" => list_functions::run,
    "ListFunctionsByCodeSigningConfig" => list_functions_by_code_signing_config::run,
    "ListLayerVersions" => list_layer_versions::run,
    "ListLayers" => list_layers::run,
    "ListProvisionedConcurrencyConfigs" => list_provisioned_concurrency_configs::run,
    "ListTags" => list_tags::run,
    "ListVersionsByFunction" => list_versions_by_function::run,
    "PublishLayerVersion" => publish_layer_version::run,
    "PublishVersion" => publish_version::run,
    "PutFunctionCodeSigningConfig" => put_function_code_signing_config::run,
    "PutFunctionConcurrency" => put_function_concurrency::run,
    "PutFunctionEventInvokeConfig" => put_function_event_invoke_config::run,
    "PutFunctionRecursionConfig" => put_function_recursion_config::run,
    "PutFunctionScalingConfig" => put_function_scaling_config::run,
    "PutProvisionedConcurrencyConfig" => put_provisioned_concurrency_config::run,
    "PutResourcePolicy" => put_resource_policy::run,
    "PutRuntimeManagementConfig" => put_runtime_management_config::run,
    "RemoveLayerVersionPermission" => remove_layer_version_permission::run,
    "RemovePermission" => remove_permission::run,
    "TagResource" => tag_resource::run,
    "UntagResource" => untag_resource::run,
    "UpdateAlias" => update_alias::run,
    "UpdateCodeSigningConfig" => update_code_signing_config::run,
    "UpdateEventSourceMapping" => update_event_source_mapping::run,
    "UpdateFunctionCode" => update_function_code::run,
    "UpdateFunctionConfiguration" => update_function_configuration::run,
    "UpdateFunctionEventInvokeConfig" => update_function_event_invoke_config::run,
    "UpdateFunctionUrlConfig" => update_function_url_config::run,
}
