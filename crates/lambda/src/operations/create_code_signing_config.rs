use std::collections::BTreeMap;

use model::lambda::{CreateCodeSigningConfigInput, CreateCodeSigningConfigOutput};
use protocol::Caller;

use crate::code_signing::{SigningConfig, new_id};
use crate::error::Error;
use crate::function::Scope;
use crate::{Lambda, tags};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: CreateCodeSigningConfigInput,
) -> Result<CreateCodeSigningConfigOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let now = lambda.clock.now();
    let mut config = SigningConfig {
        description: String::new(),
        publishers: Vec::new(),
        enforce: false,
        modified: now,
        tags: BTreeMap::new(),
    };
    let publishers = Some(input.allowed_publishers);
    config.apply(
        input.description,
        publishers,
        input.code_signing_policies,
        now,
    );
    tags::add(&mut config.tags, input.tags.unwrap_or_default())?;
    let id = new_id();
    let configs = &lambda.signing_configs;
    let config = configs.add(&scope, &id, config, |_, _| None).await?;
    Ok(CreateCodeSigningConfigOutput {
        code_signing_config: config.answer(&scope, &id),
    })
}
