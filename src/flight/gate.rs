//! Asks everybody who comes, before any call is read, for what [`Access`] wants to see.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Extensions, HeaderValue, Request, Response};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::access::{Access, Admitted};

/// A service behind its gate.
#[derive(Clone)]
pub struct Gate<S> {
    service: S,
    access: Arc<Access>,
}

impl<S> Gate<S> {
    /// Lets those to the service whom `access` admits.
    pub fn new(service: S, access: Arc<Access>) -> Gate<S> {
        Gate { service, access }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let access = Arc::clone(&self.access);
        // The one that has said that it is ready goes; its copy takes its place.
        let service = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, service);
        Box::pin(async move {
            let admitted = match access.admit(request.headers(), peer(request.extensions())).await {
                Ok(admitted) => admitted,
                Err(status) => return Ok(status.into_http()),
            };
            let token = match &admitted {
                Admitted::LoggedIn(token) => HeaderValue::from_str(&format!("Bearer {token}")).ok(),
                Admitted::Known => None,
            };
            request.extensions_mut().insert(admitted);
            let mut response = service.call(request).await?;
            if let Some(token) = token {
                response.headers_mut().insert(AUTHORIZATION, token);
            }
            Ok(response)
        })
    }
}

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let plain = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let secured = || extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.get_ref().remote_addr();
    plain.or_else(secured).map(|address| address.ip())
}
