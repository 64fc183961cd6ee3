//! One program with all servers that frameloop is compared with: `peers NAME DUTY`.
//!
//! Each server is written as its own documentation shows, with `TCP_NODELAY`, on a
//! current-thread runtime, so that a server is one thread on one core. The first line on
//! stdout names the address.

mod fastwebsockets;
mod hyper;
mod raw_tcp;
mod sockudo_ws;
mod tokio_tungstenite;
mod yawc;

use std::{env, error::Error, future::Future, process::ExitCode};

use tokio::net::{TcpListener, TcpStream};

type LoadOutcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["raw-tcp", "echo"] => raw_tcp::echo().map_err(Into::into),
        ["raw-tcp", "fanout"] => raw_tcp::fanout().map_err(Into::into),
        ["tokio-tungstenite", "echo"] => serve(tokio_tungstenite::echo).await,
        ["tokio-tungstenite", "fanout"] => {
            let topic = tokio_tungstenite::topic();
            serve(move |stream| tokio_tungstenite::member(stream, topic.clone())).await
        }
        ["fastwebsockets", "echo"] => serve(fastwebsockets::echo).await,
        ["sockudo-ws", "echo"] => serve(sockudo_ws::echo).await,
        ["sockudo-ws", "deflate"] => serve(sockudo_ws::echo_compressed).await,
        ["yawc", "deflate"] => serve(yawc::echo_compressed).await,
        ["hyper", "close"] => serve(hyper::answer_and_close).await,
        _ => {
            eprintln!(
                "usage: peers raw-tcp echo|fanout, tokio-tungstenite echo|fanout, fastwebsockets echo, \
                 sockudo-ws echo|deflate, yawc deflate, hyper close"
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Accepts connections forever. Each connection has its own task.
async fn serve<F>(connection: impl Fn(TcpStream) -> F) -> LoadOutcome
where
    F: Future<Output = LoadOutcome> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The load generator checks the replies, so connection errors are not logged.
        tokio::spawn(connection(stream));
    }
}
