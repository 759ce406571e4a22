//! Connections from the server to what listens inside.

use std::net::TcpListener;

use sandbox::{Sandboxes, Spec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Outcome, config, enter, python, wait_for_line};
use crate::tests;

tests![
    server_reaches_a_listener_inside_and_nothing_else,
    connector_of_an_environment_that_has_ended_fails,
];

const ECHO: &str = "import socket\ns = socket.create_server(('sandbox.localdomain', 0))\n\
    print(s.getsockname()[1], flush=True)\n\
    while True:\n  c, _ = s.accept(); c.sendall(c.recv(99).upper()); c.close()";

async fn server_reaches_a_listener_inside_and_nothing_else() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let (one, other) = tokio::join!(
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default())
    );
    let (one, other) = (one?, other?);
    let mut process = one.spawn(python(ECHO)).await?;
    let port: u16 = wait_for_line(&mut process).await?.parse()?;
    let mut stream = TcpStream::from_std(one.connector().connect(port).await?)?;
    stream.write_all(b"hello").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert_eq!(answer, "HELLO");
    // Neither another environment nor the host has anything under that number.
    assert!(other.connector().connect(port).await.is_err());
    let host = TcpListener::bind("127.0.0.1:0")?;
    let taken = host.local_addr()?.port();
    assert!(one.connector().connect(taken).await.is_err());
    // The server can connect while everything inside stands still.
    one.freeze()?;
    let mut stream = TcpStream::from_std(one.connector().connect(port).await?)?;
    stream.write_all(b"late").await?;
    one.thaw()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert_eq!(answer, "LATE");
    sandboxes.shutdown().await;
    Ok(())
}

async fn connector_of_an_environment_that_has_ended_fails() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let connector = sandbox.connector();
    sandbox.destroy().await;
    assert!(connector.connect(1234).await.is_err());
    sandboxes.shutdown().await;
    Ok(())
}
