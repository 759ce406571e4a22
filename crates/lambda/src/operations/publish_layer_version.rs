use model::lambda::{
    Architecture, LayerVersionContentInput, PublishLayerVersionInput, PublishLayerVersionOutput,
    Runtime,
};
use protocol::Caller;

use super::source::{Source, refuse};
use crate::error::{Constraint, Error};
use crate::function::{Code, Scope};
use crate::layers::{self, LayerVersion, VersionId};
use crate::objects::Location;
use crate::{Lambda, runtimes};

const MAX_RUNTIMES: usize = 15;
const MAX_ARCHITECTURES: usize = 2;
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PublishLayerVersionInput,
) -> Result<PublishLayerVersionOutput, Error> {
    let runtimes = names(input.compatible_runtimes, Runtime::as_str);
    let architectures = names(input.compatible_architectures, Architecture::as_str);
    check_lists(
        runtimes.as_deref().unwrap_or_default(),
        architectures.as_deref().unwrap_or_default(),
        lambda.config.allow_deprecated_runtimes,
    )?;
    let id = layers::resolve(caller, "PublishLayerVersion", &input.layer_name)?;
    if id.scope.region != caller.region {
        return Err(Error::ResourceNotFound);
    }
    let source = source(input.content)?;
    let zip = source.zip(lambda, caller, "creating").await?;
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    lambda.check_quota(&scope, zip.len() as u64)?;

    let package = lambda.code.add(zip).await?;
    let code = Code {
        digest: package.digest,
        size: package.size,
    };
    let version = LayerVersion {
        description: input.description.unwrap_or_default(),
        license: input.license_info,
        runtimes,
        architectures,
        code,
        created: lambda.clock.now(),
        policy: None,
    };
    let published = lambda.layers.publish(id.clone(), version).await;
    drop(package);
    let (number, version) = published.inspect_err(|_| lambda.collect_later(vec![code.digest]))?;
    let id = VersionId { layer: id, number };
    let location = lambda.download_url(&code.digest);
    Ok(layers::published(&id, &version, location))
}

fn source(content: LayerVersionContentInput) -> Result<Source, Error> {
    let mode = content.s3_object_storage_mode.is_some();
    refuse(&[("S3ObjectStorageMode", mode)])?;
    Ok(Source {
        zip_file: content.zip_file,
        from_s3: Location::new(content.s3_bucket, content.s3_key, content.s3_object_version),
        from_image: false,
    })
}

fn names<T>(list: Option<Vec<T>>, name: impl Fn(&T) -> &str) -> Option<Vec<String>> {
    list.map(|list| list.iter().map(|one| name(one).to_owned()).collect())
}

/// A layer may be published for fewer runtimes than the interface lists, and both lists are
/// complained about as wholes, the runtimes first.
fn check_lists(
    runtimes: &[String],
    architectures: &[String],
    allow_deprecated: bool,
) -> Result<(), Error> {
    let mut violations = Vec::new();
    let mut violated = |list: &[String], member: &str, rule: String| {
        let value = list.join(", ");
        violations.push(format!(
            "Value '[{value}]' at '{member}' failed to satisfy constraint: {rule}"
        ));
    };
    let too_long = |most: usize| format!("Member must have length less than or equal to {most}");
    if runtimes.len() > MAX_RUNTIMES {
        violated(runtimes, "compatibleRuntimes", too_long(MAX_RUNTIMES));
    }
    let unknown = |runtime: &String| runtimes::check(runtime, allow_deprecated).is_err();
    if runtimes.iter().any(unknown) {
        let known = runtimes::SUPPORTED.join(", ");
        let rule = format!("Member must satisfy enum value set: [{known}]");
        violated(runtimes, "compatibleRuntimes", rule);
    }
    let member = "compatibleArchitectures";
    if architectures.len() > MAX_ARCHITECTURES {
        violated(architectures, member, too_long(MAX_ARCHITECTURES));
    }
    let unknown = |name: &String| !ARCHITECTURES.contains(&name.as_str());
    if architectures.iter().any(unknown) {
        let known = ARCHITECTURES.join(", ");
        let rule = format!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{known}], \
             Member must not be null]"
        );
        violated(architectures, member, rule);
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(Constraint::LayerLists {
        count: violations.len(),
        violations: violations.join("; "),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(runtimes: &[&str], architectures: &[&str]) -> Option<String> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let checked = check_lists(&owned(runtimes), &owned(architectures), false);
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn lists_are_refused_as_wholes() {
        assert_eq!(refusal(&[], &[]), None);
        assert_eq!(refusal(&["python3.12"], &["arm64", "x86_64"]), None);
        let text = refusal(&["python3.12", "cobol"], &["sparc"]).unwrap();
        let start = "2 validation errors detected: Value '[python3.12, cobol]' at \
                     'compatibleRuntimes' failed";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.ends_with("[x86_64, arm64], Member must not be null]"),
            "{text}"
        );
        let many = refusal(&["python3.12"; 16], &[]).unwrap();
        assert!(
            many.starts_with("1 validation error detected: ") && many.ends_with(" 15"),
            "{many}"
        );
    }
}
