//! Functions that other services run on behalf of their resources, as S3 does for its buckets.
//!
//! A service has no account: the policy of the function must let it in, for the resource that it
//! acts for. <https://docs.aws.amazon.com/lambda/latest/dg/permissions-function-services.html>

use bytes::Bytes;
use model::AccountId;
use policy::{Context, Principal};
use protocol::{Caller, PrincipalKind};

use crate::Lambda;
use crate::error::Error;
use crate::events::EventCall;
use crate::name::FunctionReference;
use crate::service::{Address, resolve};

const ACTION: &str = "lambda:InvokeFunction";

/// A service that wants to run a function.
#[derive(Debug, Clone)]
pub struct FromService {
    /// Such as `s3.amazonaws.com`.
    pub service: &'static str,
    /// The function's ARN, with or without a qualifier.
    pub function: String,
    /// The resource that it acts for, and the account that owns it.
    pub source_arn: String,
    pub source_account: AccountId,
}

/// Why a service may not run a function, or cannot now.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such function, or its policy does not let the service in.
    #[error("{0}")]
    Never(Error),
    #[error("{0}")]
    Now(Error),
}

impl Lambda {
    /// Whether a service may run a function.
    pub fn check_service(&self, from: &FromService) -> Result<(), Refused> {
        self.address_for(from).map(drop).map_err(Refused::Never)
    }

    /// Takes an event from a service down, for the function to be run with later. The event is on
    /// disk when this returns.
    pub async fn invoke_for_service(
        &self,
        from: &FromService,
        payload: Bytes,
    ) -> Result<(), Refused> {
        let address = self.address_for(from).map_err(Refused::Never)?;
        let call = EventCall {
            request_id: crate::function::new_id(),
            payload,
            trace_header: None,
        };
        let taken = self.invoke_later(&address, call).await;
        taken.map(drop).map_err(Refused::Now)
    }

    fn address_for(&self, from: &FromService) -> Result<Address, Error> {
        let not_found = || Error::FunctionNotFound {
            arn: from.function.clone(),
        };
        let reference: FunctionReference = from.function.parse().map_err(|_| not_found())?;
        let (Some(account), Some(region)) = (reference.account, reference.region) else {
            return Err(not_found());
        };
        let caller = Caller {
            account,
            region,
            principal: protocol::Principal {
                arn: from.service.to_owned(),
                kind: PrincipalKind::Service,
            },
            access_key: None,
            request_id: String::new(),
        };
        let address = resolve(&caller, "InvokeFunction", &from.function, None)?;
        let qualifier = address.qualifier.as_ref();
        let function = self.functions.get(&address.id, qualifier)?;
        let context = Context::new()
            .with("aws:SourceArn", from.source_arn.clone())
            .with("aws:SourceAccount", from.source_account.as_str())
            .with("aws:PrincipalIsAWSService", "true")
            .with("aws:PrincipalServiceName", from.service);
        let principal = Principal::service(from.service);
        self.authorise(&function, qualifier, &principal, ACTION, &context)?;
        Ok(address)
    }
}
