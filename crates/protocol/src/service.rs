//! How a service's functions become operations.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Response, request};
use model::ServiceModel;

use crate::{ApiError, Body, Caller};

/// A future that a table of operations can hold.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What [`Service::serve`] returns.
pub type Served<'a> = BoxFuture<'a, Result<Response<Body>, ApiError>>;

/// What [`Service::call`] returns: the operation's output, or why there is none.
pub type Called<'a> = BoxFuture<'a, Result<Box<dyn Any + Send>, ApiError>>;

/// An AWS service, as the router sees it. Implemented by [`operations!`](crate::operations).
pub trait Service: Send + Sync + 'static {
    /// The service's interface.
    fn model(&self) -> &'static ServiceModel;

    /// The names of the operations it serves; their order gives the indices below.
    fn operations(&self) -> Vec<&'static str>;

    /// Runs the operation at `index` for a request.
    fn serve<'a>(
        &'a self,
        index: usize,
        request: &'a request::Parts,
        body: Bytes,
        caller: &'a Caller,
    ) -> Served<'a>;

    /// Runs the operation at `index` with its typed input, giving its typed output.
    fn call<'a>(
        &'a self,
        index: usize,
        input: Box<dyn Any + Send>,
        caller: &'a Caller,
    ) -> Called<'a>;
}

/// One operation in a service's table.
pub struct Row<S> {
    /// The operation's name.
    pub name: &'static str,
    #[doc(hidden)]
    pub operation: fn() -> (&'static str, &'static ServiceModel),
    #[doc(hidden)]
    pub serve: for<'a> fn(&'a S, &'a request::Parts, Bytes, &'a Caller) -> Served<'a>,
    #[doc(hidden)]
    pub call: for<'a> fn(&'a S, Box<dyn Any + Send>, &'a Caller) -> Called<'a>,
}

/// Implements [`Service`] for a type from a table of functions.
///
/// ```ignore
/// operations! { Lambda:
///     "CreateFunction" => create_function::run,
///     "Invoke" => invoke::run,
/// }
/// ```
///
/// A function is `async fn(&Lambda, &Caller, XInput) -> Result<XOutput, E>` with
/// `E: Into<ApiError>`; which operation it is follows from its input's type. That the name agrees is
/// checked when a router is built with the service, and so by any test that builds one.
/// [`Router::unserved`](crate::Router::unserved) tells what the table lacks.
#[macro_export]
macro_rules! operations {
    ($service:ty: $($name:literal => $run:path),+ $(,)?) => {
        impl $service {
            const OPERATIONS: &'static [$crate::Row<$service>] = &[$(
                $crate::Row {
                    name: $name,
                    operation: || {
                        let probe = $crate::expansion::Probe::new();
                        // Never called: it only ties the probe to the function's input type.
                        let _ = |service: &$service, caller: &$crate::Caller, input| {
                            drop($run(service, caller, probe.same(input)));
                        };
                        probe.operation()
                    },
                    serve: |service, request, body, caller| {
                        Box::pin(async move {
                            let (input, probe) =
                                $crate::expansion::decode(request, body, caller)?;
                            let output = $run(service, caller, input).await?;
                            Ok(probe.encode(output))
                        })
                    },
                    call: |service, input, caller| {
                        Box::pin(async move {
                            let (input, probe) = $crate::expansion::downcast(input)?;
                            let output = $run(service, caller, input).await?;
                            Ok(probe.boxed(output))
                        })
                    },
                },
            )+];
        }

        impl $crate::Service for $service {
            fn model(&self) -> &'static $crate::expansion::ServiceModel {
                (Self::OPERATIONS[0].operation)().1
            }

            fn operations(&self) -> Vec<&'static str> {
                Self::OPERATIONS
                    .iter()
                    .map(|row| {
                        let (name, _) = (row.operation)();
                        assert_eq!(row.name, name, "the function takes another operation's input");
                        name
                    })
                    .collect()
            }

            fn serve<'a>(
                &'a self,
                index: usize,
                request: &'a $crate::expansion::Parts,
                body: $crate::expansion::Bytes,
                caller: &'a $crate::Caller,
            ) -> $crate::Served<'a> {
                (Self::OPERATIONS[index].serve)(self, request, body, caller)
            }

            fn call<'a>(
                &'a self,
                index: usize,
                input: Box<dyn ::std::any::Any + Send>,
                caller: &'a $crate::Caller,
            ) -> $crate::Called<'a> {
                (Self::OPERATIONS[index].call)(self, input, caller)
            }
        }
    };
}

pub mod expansion {
    //! The parts of [`operations!`](crate::operations) that need no macro.

    use std::any::Any;
    use std::marker::PhantomData;

    pub use bytes::Bytes;
    use http::Response;
    pub use http::request::Parts;
    pub use model::ServiceModel;
    use model::{Answering, Operation, OperationInput, Protocol};

    use crate::{ApiError, Body, Caller, compressed};

    /// Stands for an input's type where the macro cannot name it, and for how it came.
    pub struct Probe<I> {
        input: PhantomData<fn() -> I>,
        protocol: Protocol,
        /// Kept only for protocols that repeat it in the answer's body.
        request_id: String,
    }

    impl<I: OperationInput> Probe<I> {
        #[allow(clippy::new_without_default, reason = "only the macro makes probes")]
        pub fn new() -> Self {
            Self {
                input: PhantomData,
                protocol: I::Operation::SERVICE.protocol,
                request_id: String::new(),
            }
        }

        fn of_request(request: &Parts, caller: &Caller) -> Self {
            let protocol = I::Operation::SERVICE.protocol_of(request);
            let request_id = match protocol {
                Protocol::AwsQuery => caller.request_id.clone(),
                _ => String::new(),
            };
            Self {
                input: PhantomData,
                protocol,
                request_id,
            }
        }

        pub fn same(&self, input: I) -> I {
            input
        }

        pub fn operation(&self) -> (&'static str, &'static ServiceModel) {
            (I::Operation::NAME, I::Operation::SERVICE)
        }

        pub fn encode(&self, output: <I::Operation as Operation>::Output) -> Response<Body>
        where
            <I::Operation as Operation>::Body: Into<Body>,
        {
            let answering = Answering {
                protocol: self.protocol,
                request_id: &self.request_id,
            };
            I::Operation::encode_in(&answering, output).map(Into::into)
        }

        pub fn boxed(&self, output: <I::Operation as Operation>::Output) -> Box<dyn Any + Send> {
            Box::new(output)
        }
    }

    pub fn decode<I: OperationInput>(
        request: &Parts,
        body: Bytes,
        caller: &Caller,
    ) -> Result<(I, Probe<I>), ApiError> {
        let probe = Probe::of_request(request, caller);
        let body = if I::Operation::COMPRESSIBLE {
            compressed::inflated(request, body)?
        } else {
            body
        };
        let input = I::Operation::decode_in(probe.protocol, request, body)?;
        Ok((input, probe))
    }

    pub fn downcast<I: OperationInput + 'static>(
        input: Box<dyn Any + Send>,
    ) -> Result<(I, Probe<I>), ApiError> {
        match input.downcast::<I>() {
            Ok(input) => Ok((*input, Probe::new())),
            Err(_) => Err(ApiError::internal(
                "an operation was called with another's input",
            )),
        }
    }
}
