//! `keybearer check` tells every mistake of a configuration at once, and where it stands.

use std::collections::BTreeSet;

use crate::support::proxy::Setup;

/// Five mistakes; each is on a line that ends in a comment with its number.
const FIVE_MISTAKES: &str = r#"
[listeners.default]
address = "127.0.0.1:0"

[named_credentials.orders]
lable = "Orders API" # 1: no such key
url = "https://api.example.com/v1?x=1" # 2: a query
external_credential = "isuer" # 3: no such external credential
timeouts = { connect = "5 parsecs" } # 4: no duration

[external_credentials.issuer]
token_endpoint = "https://api.example.com/token"
client_id = "orders"
client_secret = "written-out-in-the-open" # 5: a secret as text
"#;

/// Every `proxy.toml:LINE:COLUMN` in a text.
fn positions(text: &str) -> BTreeSet<(usize, usize)> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let found = text.split("proxy.toml:").skip(1);
    found
        .filter_map(|rest| {
            let line: usize = number(rest)?;
            let column = number(rest.split_once(':')?.1)?;
            Some((line, column))
        })
        .collect()
}

fn mistaken_lines() -> BTreeSet<usize> {
    let lines = FIVE_MISTAKES.lines().enumerate();
    lines.filter(|(_, line)| line.contains(" # ")).map(|(index, _)| index + 1).collect()
}

#[tokio::test]
async fn five_mistakes_are_told_in_one_go_with_their_places() {
    let setup = Setup::new(FIVE_MISTAKES);
    let config = setup.config();
    for command in ["check", "run"] {
        let output = setup.output(&[command, "-c", config.to_str().unwrap()]).await;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(78), "{command}: {text}");
        let positions = positions(&text);
        assert_eq!(positions.len(), 5, "{command}: {positions:?} in:\n{text}");
        assert_eq!(positions.iter().map(|(line, _)| *line).collect::<BTreeSet<_>>(), mistaken_lines(), "{text}");
        assert!(text.contains("label"), "the nearest known key is named:\n{text}");
        assert!(text.contains("issuer"), "the nearest external credential is named:\n{text}");
        assert!(!text.contains("written-out-in-the-open"), "the secret is not repeated:\n{text}");
    }
}

#[tokio::test]
async fn a_sound_configuration_passes() {
    let setup = Setup::new(
        r#"
[named_credentials.orders]
url = "https://api.example.com/v1"
external_credential = "issuer"

[external_credentials.issuer]
token_endpoint = "https://api.example.com/token"
client_id = "orders"
client_secret = { env = "ORDERS_SECRET" }
"#,
    )
    .env("ORDERS_SECRET", "a-secret-that-is-well-kept");
    let output = setup.output(&["check"]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("a-secret-that-is-well-kept"), "{text}");
}

#[tokio::test]
async fn usage_errors_have_a_status_of_their_own() {
    assert_eq!(Setup::new("").output(&["chekc"]).await.status.code(), Some(2));
}
