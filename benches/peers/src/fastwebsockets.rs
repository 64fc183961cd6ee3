//! fastwebsockets: the echo loop of its `examples/echo_server.rs`, behind hyper's upgrade.

use std::convert::Infallible;

use ::fastwebsockets::{FragmentCollector, OpCode, upgrade};
use ::hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::LoadOutcome;

pub(crate) async fn echo(stream: TcpStream) -> LoadOutcome {
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(accept))
        .with_upgrades()
        .await?;
    Ok(())
}

async fn accept(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let Ok((response, upgrading)) = upgrade::upgrade(&mut request) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = ::hyper::StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    // Like the example of fastwebsockets, runs without tokio's cooperative budget.
    tokio::spawn(tokio::task::unconstrained(echo_frames(upgrading)));
    Ok(response)
}

async fn echo_frames(upgrading: upgrade::UpgradeFut) -> LoadOutcome {
    let mut socket = FragmentCollector::new(upgrading.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}
