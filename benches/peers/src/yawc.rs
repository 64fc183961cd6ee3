//! yawc: the echo loop of its documentation, with permessage-deflate without context takeover.

use std::convert::Infallible;

use ::hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use ::yawc::{CompressionLevel, OpCode, Options, UpgradeFut, WebSocket};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::LoadOutcome;

pub(crate) async fn echo_compressed(stream: TcpStream) -> LoadOutcome {
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(accept))
        .with_upgrades()
        .await?;
    Ok(())
}

async fn accept(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let options = Options::default()
        .with_compression_level(CompressionLevel::fast())
        .server_no_context_takeover()
        .client_no_context_takeover()
        .with_utf8();
    let Ok((response, upgrading)) = WebSocket::upgrade_with_options(request, options) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    tokio::spawn(echo(upgrading));
    Ok(response)
}

async fn echo(upgrading: UpgradeFut) -> LoadOutcome {
    let mut socket = upgrading.await?;
    while let Some(frame) = socket.next().await {
        if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
            socket.send(frame).await?;
        }
    }
    Ok(())
}
