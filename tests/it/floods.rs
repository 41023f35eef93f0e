//! Floods of HTTP/2 frames: each is ended within a second, and fast callers that mean no harm are not taken for one.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, pseudo,
};
use crate::support::http::get;
use crate::support::metrics::Scrape;
use crate::support::proxy::head;
use crate::support::stage::{Stage, named};
use crate::support::{unavailable, within};

/// How long a flood may last after it was begun; the duty is a second, and the machine has other work.
const END: Duration = Duration::from_secs(5);

/// Sends `first`, then what `more` gives again and again until the connection ends; the reason in the last GOAWAY.
async fn flood(stage: &Stage, first: Vec<u8>, mut more: impl FnMut(u32) -> Vec<u8>) -> (Option<u32>, Duration) {
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.stream.write_all(&first).await.unwrap();
    let began = Instant::now();
    let Frames { stream, .. } = caller;
    let (mut reader, mut writer) = stream.into_split();
    let mut received = Vec::new();
    let reading = async {
        use tokio::io::AsyncReadExt as _;
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..read]);
        }
    };
    let writing = async {
        for number in 0.. {
            let batch: Vec<u8> = (0..64).flat_map(|each| more(number * 64 + each)).collect();
            if writer.write_all(&batch).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
    };
    within("the flood ends", END, ended).await;
    (goaway(&received), began.elapsed())
}

/// The reason in the last GOAWAY among these frames.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    let mut reason = None;
    while let Some(header) = bytes.get(..9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        if header[3] == 7 {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = &bytes[9 + length..];
    }
    reason
}

const FLOODS: &str = "keybearer_http2_floods_total";

fn open(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&pseudo("POST", "/nowhere")))
}

fn odd(number: u32) -> u32 {
    number * 2 + 1
}

/// B56: each kind of flood is ended within a second and counted; a bystander is served all the while.
#[tokio::test]
async fn every_flood_is_ended_and_counted() {
    let stage = Stage::orders().await;
    let post = || frame(HEADERS, END_HEADERS, 1, &block(&pseudo("POST", "/orders/x")));
    let (one, most) = (1_u32.to_be_bytes(), 0x7fff_ffff_u32.to_be_bytes());
    type More<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;
    let floods: Vec<(&str, &str, Vec<u8>, More<'_>)> = vec![
        ("SETTINGS", "settings", vec![], Box::new(|_| frame(SETTINGS, 0, 0, b""))),
        ("SETTINGS with ACK", "settings", vec![], Box::new(|_| frame(SETTINGS, ACK, 0, b""))),
        ("PING", "ping", vec![], Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("PRIORITY", "priority", vec![], Box::new(|number| frame(PRIORITY, 0, odd(number % 1000), &[0, 0, 0, 0, 9]))),
        ("WINDOW_UPDATE", "window_update", vec![], Box::new(move |_| frame(WINDOW_UPDATE, 0, 0, &one))),
        (
            "rapid reset",
            "reset",
            vec![],
            Box::new(|number| {
                let stream = odd(number);
                [open(stream, END_STREAM), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
            }),
        ),
        (
            "made to reset: WINDOW_UPDATE over the largest window",
            "provoked_reset",
            vec![],
            Box::new(|number| [open(odd(number), 0), frame(WINDOW_UPDATE, 0, odd(number), &most)].concat()),
        ),
        (
            "made to reset: WINDOW_UPDATE of 0",
            "",
            vec![],
            Box::new(|number| [open(odd(number), 0), frame(WINDOW_UPDATE, 0, odd(number), &[0; 4])].concat()),
        ),
        (
            "made to reset: DATA after the end",
            "",
            vec![],
            Box::new(|number| [open(odd(number), END_STREAM), frame(DATA, 0, odd(number), &[7; 64])].concat()),
        ),
        (
            "made to reset: a stream that depends on itself",
            "",
            vec![],
            Box::new(|number| {
                let stream = odd(number);
                [open(stream, 0), frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())].concat()
            }),
        ),
        (
            "made to reset: malformed requests",
            "provoked_reset",
            vec![],
            Box::new(|number| frame(HEADERS, END_HEADERS | END_STREAM, odd(number), b"")),
        ),
        ("CONTINUATION", "continuation", frame(HEADERS, 0, 1, b""), Box::new(|_| frame(CONTINUATION, 0, 1, b""))),
        ("empty DATA", "tiny_data", post(), Box::new(|_| frame(DATA, 0, 1, b""))),
        ("tiny DATA", "tiny_data", post(), Box::new(|_| frame(DATA, 0, 1, b"x"))),
        ("unknown frames", "unknown", vec![], Box::new(|_| frame(0xfe, 0, 0, b"x"))),
    ];
    for (what, kind, first, more) in floods {
        let scrape = Scrape::of(&stage.proxy).await;
        let before = scrape.sum(FLOODS, &[("kind", kind)]) + scrape.sum(FLOODS, &[("kind", "other")]);
        let bystander = async {
            let answer = get(stage.proxy.address, "/orders/bystander").await.unwrap();
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        };
        let ((reason, took), ()) = tokio::join!(flood(&stage, first, more), bystander);
        println!("{what}: {reason:?} after {took:?}");
        if kind.is_empty() {
            // A mistake for which h2 gives up the whole connection, at once.
            continue;
        }
        // The kernel may take the GOAWAY along with what it resets; it is never another reason.
        assert!(reason.is_none_or(|reason| reason == ENHANCE_YOUR_CALM), "{what}: {reason:?}");
        let after = Scrape::of(&stage.proxy).await.sum(FLOODS, &[("kind", kind)]);
        let other = Scrape::of(&stage.proxy).await.sum(FLOODS, &[("kind", "other")]);
        // The library may have been faster.
        assert!((after + other - before - 1.0).abs() < 0.1, "{what}: {before} and then {after} + {other}");
    }
}

/// B56: SETTINGS of ours that are never acknowledged are a kind of flood too, once there was time for it.
#[tokio::test]
async fn settings_have_to_be_acknowledged() {
    let limits = head("info") + "[limits]\nheader_timeout = \"300ms\"\n";
    let stage = Stage::listening(&limits, &named("orders", "", "")).await;
    let mut caller = Frames::silent(stage.proxy.address).await;
    caller.stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let began = Instant::now();
    while began.elapsed() < END && caller.send(PING, 0, 0, &[0; 8]).await.is_ok() {
        tick.tick().await;
    }
    assert!(began.elapsed() < END, "it went on for ever");
    let scrape = Scrape::of(&stage.proxy).await;
    assert_eq!(scrape.sum(FLOODS, &[("kind", "settings")]), 1.0);
}

/// As many requests as fit, answered at full speed, and each frame acknowledged.
#[tokio::test]
async fn a_caller_at_full_speed_is_no_flood() {
    let stage = Stage::orders().await;
    let url = format!("http://{}/orders/x", stage.proxy.address);
    let load = Command::new("h2load").args(["-n", "5000", "-c", "2", "-m", "100", &url]).output().await;
    let Ok(output) = load else {
        unavailable::<()>("h2load is not there");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("5000 succeeded, 0 failed, 0 errored"), "{text}");
    assert_eq!(Scrape::of(&stage.proxy).await.sum(FLOODS, &[]), 0.0);
}

/// Messages as small as gRPC makes them, as fast as they can be sent, while the first token is minted.
#[tokio::test]
async fn a_stream_of_small_messages_is_no_flood() {
    let stage = Stage::orders().await;
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("POST", "/orders/x"), 0).await;
    let messages = frame(DATA, 0, 1, b"\0\0\0\0\x02hi").repeat(2_000);
    caller.stream.write_all(&messages).await.unwrap();
    caller.send(DATA, END_STREAM, 1, b"").await.unwrap();
    let outcome = caller.outcome(1).await;
    assert_eq!((outcome.status, outcome.goaway), (Some(200), None), "{:?}", outcome.reset);
    assert_eq!(Scrape::of(&stage.proxy).await.sum(FLOODS, &[]), 0.0);
}
