//! `keybearer explain`: the head as it would leave, with what is said for one hop, and the version of HTTP that is spoken.

use serde_json::Value;

use crate::support::proxy::{Setup, head};

const TABLES: &str = r#"
[named_credentials.orders]
url = "https://api.example.com/v1"
external_credential = "issuer"

[named_credentials.modern]
url = "https://grpc.example.com"
http = "2"
external_credential = "issuer"

[external_credentials.issuer]
token_endpoint = "https://login.example.com/token"
client_id = "orders"
client_secret = { env = "NOT_SET" }
"#;

/// The request line, and those of these fields that are there.
async fn explained(arguments: &[&str], names: &[&str]) -> (String, Vec<String>) {
    let setup = Setup::new(&(head("info") + TABLES));
    let output = setup.output(&[&["explain"], arguments].concat()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = text.lines().skip_while(|line| !line.starts_with("  ")).map(str::trim);
    let line = lines.next().unwrap().to_owned();
    let is_named = |field: &&str| names.iter().any(|name| field.starts_with(&format!("{name}: ")));
    let fields = lines.filter(is_named).map(str::to_owned).collect();

    let output = setup.output(&[&["--format", "json", "explain"], arguments].concat()).await;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let version = json["request"]["http_version"].as_str().unwrap();
    assert!(line.ends_with(&format!(" HTTP/{version}")), "{line}: {json:#}");
    (line, fields)
}

/// B33, B39, B42: what is said for one hop is ours to say, and shown.
#[tokio::test]
async fn fields_for_one_hop_and_the_version_are_shown() {
    let names = ["te", "connection", "upgrade", "expect", "host", ":authority", "keep-alive"];
    let (line, fields) =
        explained(&["GET", "/orders/x", "-H", "connection: keep-alive", "-H", "keep-alive: 5"], &names).await;
    assert_eq!((line.as_str(), fields), ("GET /v1/x HTTP/1.1", vec!["host: api.example.com".to_owned()]));

    let trailers = ["GET", "/orders/x", "-H", "te: trailers, gzip", "-H", "connection: te"];
    let (_, fields) = explained(&trailers, &names[..4]).await;
    assert_eq!(fields, ["te: trailers", "connection: te"]);

    let (_, fields) = explained(&["POST", "/orders/x", "-H", "expect: 100-Continue"], &names[..4]).await;
    assert_eq!(fields, ["expect: 100-continue"]);

    let upgrade = ["GET", "/orders/x", "-H", "connection: Upgrade", "-H", "upgrade: WebSocket"];
    let (line, fields) = explained(&upgrade, &names[..4]).await;
    assert_eq!((line.as_str(), fields.len()), ("GET /v1/x HTTP/1.1", 2));
    assert!(fields.contains(&"connection: upgrade".to_owned()) && fields.contains(&"upgrade: websocket".to_owned()));
}

#[tokio::test]
async fn http_2_is_shown_where_it_is_configured_and_where_grpc_needs_it() {
    let names = ["te", "connection", "expect", "host", ":authority"];
    let fields = ["-H", "te: trailers", "-H", "connection: te", "-H", "expect: 100-continue"];
    let (line, fields) = explained(&[&["POST", "/modern/x"], &fields[..]].concat(), &names).await;
    assert_eq!(line, "POST /x HTTP/2");
    assert_eq!(
        fields.iter().filter(|field| *field != "te: trailers").collect::<Vec<_>>(),
        [":authority: grpc.example.com"]
    );

    let (line, fields) =
        explained(&["POST", "/orders/pkg.Service/Call", "-H", "content-type: application/grpc"], &names).await;
    assert_eq!(line, "POST /v1/pkg.Service/Call HTTP/2");
    assert!(fields.contains(&"te: trailers".to_owned()), "{fields:?}");
}
