//! The engine of Socket.IO's sessions: socketioxide's.

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use socketioxide::service::SocketIoService;

use super::fan_out::FanOut;
use super::first_ping::Transport;
use super::service::{Engine, Query};
use super::{Adapter, SocketIo};
use crate::http::Answering;

pub(super) struct SocketIoEngine {
    pub(super) service: SocketIoService<Elsewhere, Adapter>,
    pub(super) io: SocketIo,
    pub(super) fan_out: FanOut,
}

impl Engine for SocketIoEngine {
    fn ask(&self, request: Request<Full<Bytes>>) -> Answering<Response<Full<Bytes>>> {
        let (service, fan_out) = (self.service.clone(), self.fan_out.clone());
        Box::pin(async move {
            // As a WebSocket is not read from, what is posted waits.
            if request.method() == Method::POST {
                drop(fan_out.place().await);
            }
            let answer = Service::<Request<Full<Bytes>>>::call(&service, request);
            let Ok((head, body)) = answer.await.map(Response::into_parts);
            let Ok(collected) = body.collect().await;
            Response::from_parts(head, Full::new(collected.to_bytes()))
        })
    }

    fn adopt(&self, mut stream: Transport, request: Request<()>) {
        let sid = Query::of(request.uri()).sid;
        stream.enrol(&self.fan_out, sid.and_then(|sid| sid.parse().ok()));
        // What it may refuse has been checked; if it does, the stream is dropped and so closed.
        drop(Service::<(Transport, _)>::call(
            &self.service,
            (stream, request),
        ));
    }

    fn close(&self) -> Answering<()> {
        let io = self.io.clone();
        Box::pin(async move { io.close().await })
    }
}

/// Where the engine sends what is none of its own. The router sends it nothing of the kind.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere;

impl Service<Request<Full<Bytes>>> for Elsewhere {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn call(&self, _: Request<Full<Bytes>>) -> Self::Future {
        let mut response = Response::new(Full::default());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        ready(Ok(response))
    }
}
