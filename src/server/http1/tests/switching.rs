//! Requests for another protocol, and what becomes of the socket.

use super::*;

/// Answers 101 after a second and echoes from then on.
fn echo(mut request: Request<Incoming>, _: Arc<Connection>) -> Answer {
    Box::pin(async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(&mut socket);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        switching()
    })
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";

/// B42: after a 101 the service has the socket, with every byte that came early and no byte twice.
#[tokio::test(start_paused = true)]
async fn after_a_101_the_service_has_the_socket() {
    let mut served = start(echo);
    served.send([UPGRADE, "early", GET].concat()).await;
    assert_eq!(served.heard().await, "");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.heard().await, [SWITCHED, "early", GET].concat());
    assert!(served.serving.is_finished(), "hyper's part is over");
    served.send("BAD\n\n").await;
    assert_eq!(served.heard().await, "BAD\n\n");
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    served.send("after a day").await;
    assert_eq!(served.heard().await, "after a day");
    served.caller.shutdown().await.unwrap();
    assert!(served.is_closed().await);
    assert_eq!(Arc::strong_count(&served.connection), 1, "nothing holds the connection in a circle");
}

/// B57: a drain waits for the answer to an upgrade and leaves the 101 alone.
#[tokio::test(start_paused = true)]
async fn a_drain_does_not_disturb_an_upgrade() {
    let mut served = start(echo);
    served.send(UPGRADE).await;
    assert_eq!(served.heard().await, "");
    let drain = served.drain(Duration::from_secs(20));
    assert_eq!(served.heard().await, "");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.heard().await, SWITCHED);
    served.send("hello").await;
    assert_eq!(served.heard().await, "hello");
    drain.await.unwrap();
}

/// B42: a request for another protocol that is pipelined behind others changes nothing for those.
#[tokio::test(start_paused = true)]
async fn a_pipelined_upgrade_waits_for_its_turn() {
    let mut served = start(|request, connection| {
        if request.uri().path() == "/ws" {
            return echo(request, connection);
        }
        Box::pin(async move {
            assert!(!connection.may_switch());
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!connection.may_switch());
            status(StatusCode::OK)
        })
    });
    served.send([GET, GET, UPGRADE, "early"].concat()).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(served.heard().await, [OK, OK, SWITCHED, "early"].concat());
}

/// B42, B10: an answer that agrees to nothing is whole, says that the connection ends, and nothing behind the request is
/// taken for another one.
#[tokio::test(start_paused = true)]
async fn a_declined_upgrade_is_answered_whole_and_ends_the_connection() {
    for (head, code) in
        [(UPGRADE, StatusCode::OK), ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", StatusCode::FORBIDDEN)]
    {
        let mut served = serve_in(64, lonely(), move |_, connection| {
            Box::pin(async move {
                assert!(connection.may_switch());
                let mut answer = status(code);
                *answer.body_mut() = body::full("x".repeat(100_000));
                answer
            })
        });
        let (mut reader, mut writer) = tokio::io::split(served.caller);
        let sending = tokio::spawn(async move { writer.write_all([head, GET].concat().as_bytes()).await });
        let drain = served.drain.take().unwrap();
        let settings = DrainSettings { delay: None, deadline: Duration::from_secs(3600) };
        tokio::spawn(async move { drain.run(&settings, Duration::from_millis(3), std::future::pending()).await });
        let mut heard = Vec::new();
        let mut buffer = [0_u8; 10];
        while let Ok(length) = reader.read(&mut buffer).await
            && length > 0
        {
            heard.extend_from_slice(&buffer[..length]);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        let heard = String::from_utf8(heard).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {code}\r\n")) && head.contains("connection: close"), "{head}");
        assert_eq!(body.len(), 100_000);
        sending.await.unwrap().unwrap();
    }
}

/// B42: an interim status, 101 included, that nobody asked for is a fault of ours.
#[tokio::test(start_paused = true)]
async fn a_101_that_nobody_asked_for_is_502() {
    let mut served = start(|_, _| Box::pin(async { switching() }));
    served.send(GET).await;
    assert_eq!(served.heard().await, "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    served.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let heard = served.heard().await;
    assert!(heard.starts_with("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n"), "{heard}");
    assert!(served.is_closed().await);
}

/// B10: a 2xx to CONNECT hands over the socket.
#[tokio::test(start_paused = true)]
async fn after_a_2xx_to_connect_the_service_has_the_socket() {
    let mut served = start(|request, connection| {
        assert_eq!(request.uri().authority().unwrap().as_str(), "a.example:443");
        let answer = echo(request, connection);
        Box::pin(async move {
            answer.await;
            status(StatusCode::OK)
        })
    });
    served.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nearly").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(served.heard().await, "HTTP/1.1 200 OK\r\n\r\nearly");
    served.send("more").await;
    assert_eq!(served.heard().await, "more");
}

/// B43: callers that offer `h2c` with every request keep their connections.
#[tokio::test(start_paused = true)]
async fn an_h2c_offer_is_ignored() {
    let mut served = start(|request, connection| {
        assert!(!request.headers().contains_key(http::header::UPGRADE) && !connection.may_switch());
        Box::pin(async { status(StatusCode::OK) })
    });
    for _ in 0..3 {
        served.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n").await;
        assert_eq!(served.heard().await, OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_before_a_101_takes_the_exchange_along() {
    let (told, mut gone) = tokio::sync::mpsc::channel::<Failure>(1);
    let told = Arc::new(parking_lot::Mutex::new(Some(told)));
    let mut served = start(move |_, _| {
        let told = told.lock().take();
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(told);
            switching()
        })
    });
    served.send([UPGRADE, "early"].concat()).await;
    assert_eq!(served.heard().await, "");
    drop(served.caller);
    assert!(timeout(Duration::from_secs(1), gone.recv()).await.unwrap().is_none(), "the exchange was dropped");
}
